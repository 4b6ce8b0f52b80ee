/**
 * Every environment variable of Inorder: one row defines its type, its loader, its line in `--help`, its row in
 * this folder's README and its entry in `.env.example`, which are rendered here; a test compares the last two with the files.
 * `load.ts` checks conditions on several variables.
 */
import { defaultEventLimits } from '../events/event.ts';
import { type TlsFiles, tlsVariables } from '../tls.ts';
import { logLevels } from './config.ts';
import * as kinds from './parsers.ts';
import type { ValueKind } from './parsers.ts';

export interface Variable<T> {
  /** The default as text. Null: unset by default, and then null in the configuration. */
  readonly defaultText: string | null;
  readonly kind: ValueKind<T>;
  /** Its effect and unit, in a sentence or two; may name other variables. */
  readonly meaning: string;
  /** The value is never printed, and `<NAME>_FILE` may name a file with it. */
  readonly secret: boolean;
}

/** RabbitMQ's default: the broker closes the channel of a delivery that is unacknowledged for longer. */
export const consumerTimeoutMs = 1_800_000;
const longestMs = consumerTimeoutMs / 3;

const row = <T>(defaultText: string, kind: ValueKind<T>, meaning: string) => ({ defaultText, kind, meaning, secret: false }) as const;
const optional = <T>(kind: ValueKind<T>, meaning: string) => ({ defaultText: null, kind, meaning, secret: false }) as const;
const secret = <T, D extends string | null>(defaultText: D, kind: ValueKind<T>, meaning: string) =>
  ({ defaultText, kind, meaning, secret: true }) as const;

/** The variables of TLS to one service, under the names of `tlsVariables`. */
function tlsRows<Service extends 'AMQP' | 'REDIS'>(service: Service, server: string, scheme: string) {
  const { caFile, certFile, keyFile, serverName } = tlsVariables[service];
  const hostName = kinds.matching(/^(?=.*[A-Za-z])[A-Za-z0-9._-]{1,253}$/, 'a host name, no IP address');
  const rows = {
    [caFile]: optional(
      kinds.filePath,
      `With \`${scheme}\`: the authorities that may have issued the certificate of ${server}. Unset: those that Node.js trusts. Like the next two it is read again at each connect.`,
    ),
    [certFile]: optional(kinds.filePath, `The certificate that is shown to ${server}, with the intermediate ones. Unset: none.`),
    [keyFile]: optional(kinds.filePath, `The private key of ${certFile}; not encrypted.`),
    [serverName]: optional(hostName, `The name in the certificate of ${server}. Unset: the host in the URL.`),
  };
  return rows as Record<(typeof tlsVariables)[Service][keyof TlsFiles], Variable<string> & { readonly defaultText: null }>;
}

export const variables = {
  AMQP_URL: secret(
    'amqp://localhost:5672',
    kinds.amqpUrls,
    'RabbitMQ. Several URLs, separated by commas, are nodes of one cluster, tried in turn.',
  ),
  AMQP_AUTH: row(
    'plain',
    kinds.oneOf('plain', 'external'),
    'How RabbitMQ knows who this is: `plain`, by user and password of AMQP_URL, or `external`, by AMQP_TLS_CERT_FILE (needs the plugin `rabbitmq_auth_mechanism_ssl`).',
  ),
  ...tlsRows('AMQP', 'RabbitMQ and its management API', 'amqps://'),
  MANAGEMENT_URL: secret(
    null,
    kinds.httpUrl,
    'The management API, such as `https://user:password@localhost:15671`. Unset: a worker does without it; `inorder doctor` and `inorder topology check` ask port 15671 of the host of an `amqps://` URL, over TLS, and 15672 of an `amqp://` one.',
  ),
  REDIS_URL: secret('redis://localhost:6379', kinds.redisUrl, 'Redis; also the nodes of a cluster, or sentinels.'),
  ...tlsRows('REDIS', 'Redis and its sentinels', 'rediss://'),
  DATABASE_URL: secret(
    null,
    kinds.postgresUrl,
    'PostgreSQL, where STATE_STORE says so. The tables are made on first use, in the schema `inorder`.',
  ),
  STATE_STORE: row('redis', kinds.oneOf('redis', 'postgres'), 'Where versions and states live.'),
  EVENT_LOG: row(
    'false',
    kinds.trueOrFalse,
    'Whether workers keep every event that they apply with its entity in STATE_STORE, in the same commit and for ever: `inorder events list --applied`.',
  ),
  DURABILITY: row(
    'none',
    kinds.durability,
    'What has to have a commit in Redis, beside the memory of the server, before its message is acknowledged: `replicas:N` waits for N replicas (WAIT), `aof` for the append-only file (WAITAOF, Redis 7.2). Not for a cluster.',
  ),
  EVENT_STORE: {
    defaultText: null,
    kind: kinds.oneOf('postgres', 'redis'),
    meaning:
      'Where the append-only log of events is, for `inorder events list` and its like, `inorder relay` and GAP_REPAIR. Unset: PostgreSQL where DATABASE_URL is set, else Redis.',
    secret: false,
  },
  STREAM: row(
    'events',
    kinds.matching(
      /^(?!amq\.)[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/,
      'up to 100 letters, digits, dots, underscores and hyphens, starting with a letter or digit (`amq.` is taken)',
    ),
    'Name of the stream: of its exchange, and the first part of the name of every queue and key.',
  ),
  EXCHANGE_TYPE: row(
    'x-consistent-hash',
    kinds.oneOf('x-consistent-hash', 'x-modulus-hash'),
    'Type of the exchange. `x-modulus-hash` needs RabbitMQ 4.3.',
  ),
  QUEUE_TYPE: row('quorum', kinds.oneOf('quorum', 'classic'), 'Type of the shard queues. Classic ones are not replicated.'),
  SHARDS: row(
    '8',
    kinds.wholeNumber(1, 1_000),
    'Number of shard queues; the same in every process of a stream. Each entity lives in one of them.',
  ),
  WORKER_SHARDS: row(
    'all',
    kinds.shardList,
    'Shards that this worker consumes. Workers that name the same shard are standbys of each other.',
  ),
  WORKER_ORDINAL: {
    defaultText: null,
    kind: kinds.wholeNumber(0, 999),
    meaning:
      'Of several workers with the same WORKER_SHARDS, which one this is, from 0, as in a StatefulSet: it begins with its own share of the shards and stands by for the others. Unset: whoever subscribes first.',
    secret: false,
  },
  WORKER_REPLICAS: row('1', kinds.wholeNumber(1, 1_000), 'How many workers share the shards so; read only where WORKER_ORDINAL is set.'),
  TOPOLOGY: row(
    'declare',
    kinds.oneOf('declare', 'verify'),
    'At the start of a worker: `declare` makes what is missing, `verify` only compares.',
  ),
  PREFETCH: row(
    '1000',
    // With 2, the first held delivery would already reach the limit of 80 %.
    kinds.wholeNumber(3, 65_535),
    'Unacknowledged deliveries of one shard. Where 80 % of them are held, the gap that is nearest to its end ends early: the rest is room for the event that is missing.',
  ),
  PROCESSOR: row(
    'order',
    kinds.matching(/^[^\0\r\n]+$/, '`order`, `history`, or the path of a module'),
    'What processes the events: `order`, `history`, or the path of a module that exports aggregates and handlers.',
  ),
  PROCESSOR_ISOLATION: row(
    'none',
    kinds.oneOf('none', 'thread'),
    'Where the processors run: with the worker (`none`), or in a `thread` of their own. That is ended when it blocks or needs too much memory, and the worker goes on; each event is copied there and back.',
  ),
  ENTITY_TYPE: row(
    'order',
    kinds.matching(/^[^\p{Cc}\s](?:[^\p{Cc}]{0,98}[^\p{Cc}\s])?$/u, 'up to 100 characters without control characters or outer spaces'),
    'Entity type of an event that names none.',
  ),
  ORDERING_VIOLATION_STRATEGY: row(
    'buffer',
    kinds.oneOf('buffer', 'skip', 'fail', 'log_and_process'),
    'An event that comes before its predecessor: `buffer` holds it, `fail` dead-letters it and parks the entity, ' +
      '`skip` passes over it, `log_and_process` applies it.',
  ),
  GAP_TIMEOUT_MS: row(
    '30000',
    kinds.wholeNumber(1, longestMs),
    'How long a held event waits for its predecessor, in milliseconds; at most a third of `consumer_timeout`.',
  ),
  GAP_TIMEOUT_ACTION: row(
    'dead-letter',
    kinds.oneOf('dead-letter', 'skip-ahead'),
    'Then: `dead-letter` what is held and park the entity, or `skip-ahead` over the gap.',
  ),
  MAX_BUFFERED_PER_ENTITY: row(
    '1000',
    kinds.wholeNumber(2, 65_535),
    'Events held of one entity; reaching it ends its gap early. At most PREFETCH, and PREFETCH when that is lower than the default. Has an effect below the limit of the shard, 80 % of PREFETCH.',
  ),
  FIRST_SEQUENCE: row(
    '1',
    kinds.firstSequence,
    'Sequence of the first event of an entity: `0` where producers count from 0. `any` takes the first event seen of an unknown entity, from sequence 1 up, as its base line.',
  ),
  UNSEQUENCED: row(
    'reject',
    kinds.oneOf('reject', 'process'),
    'An event without a sequence: `reject` it, or `process` it in order of delivery.',
  ),
  REPLY_QUEUES: {
    defaultText: null,
    kind: kinds.queuePattern,
    meaning:
      'Queues to which results of handlers may be sent where a message names one in `replyTo`, beside those that the broker has named (`amq.gen-…` and direct reply-to).',
    secret: false,
  },
  AUTO_REPLAY: row(
    'false',
    kinds.trueOrFalse,
    'Whether a worker replays the dead letters of an entity by itself when its missing event arrives. What failed by itself is left to you.',
  ),
  GAP_REPAIR: row(
    'off',
    kinds.matching(/^[^\0\r\n]+$/, '`off`, `event-store`, or the path of a module'),
    'Where missing events are fetched from instead of being waited for: `off`, the `event-store`, or the path of a module whose default export gives them.',
  ),
  GAP_REPAIR_AFTER_MS: row(
    '5000',
    kinds.wholeNumber(1, longestMs),
    'How long a gap is waited for before GAP_REPAIR asks for what is missing, in milliseconds; less than GAP_TIMEOUT_MS, and half of it where that is lower than the default.',
  ),
  IDEMPOTENCY_TTL_SECONDS: row(
    '86400',
    kinds.wholeNumber(1, 315_360_000),
    'How long the id, the payload hash and the result of an event are remembered after its commit, in seconds; of each event for itself, whatever comes after it.',
  ),
  RETRY_MAX_ATTEMPTS: row('5', kinds.wholeNumber(1, 1_000), 'Attempts at one event before it is dead-lettered, the first included.'),
  RETRY_INITIAL_MS: row(
    '100',
    kinds.wholeNumber(1, longestMs),
    'Pause after the first failed attempt, in milliseconds; it doubles with each one, with jitter.',
  ),
  RETRY_MAX_MS: row('10000', kinds.wholeNumber(1, longestMs), 'Longest pause between two attempts, in milliseconds.'),
  HANDLER_TIMEOUT_MS: row('30000', kinds.wholeNumber(1, longestMs), 'Longest time for one attempt of a handler, in milliseconds.'),
  MAX_BODY_BYTES: row(
    String(defaultEventLimits.maxBodyBytes),
    kinds.wholeNumber(1, 134_217_728),
    'Largest message body, in bytes. RabbitMQ 4 takes 16 MiB at most, unless its `max_message_size` says more.',
  ),
  MAX_HEADER_BYTES: row(
    String(defaultEventLimits.maxHeaderBytes),
    kinds.wholeNumber(1, 1_048_576),
    'Largest header block, in bytes of keys and values.',
  ),
  MAX_ENTITY_ID_BYTES: row(
    String(defaultEventLimits.maxEntityIdBytes),
    kinds.wholeNumber(1, 65_535),
    'Largest entity id or type, in bytes of UTF-8.',
  ),
  MAX_JSON_DEPTH: row(String(defaultEventLimits.maxJsonDepth), kinds.wholeNumber(1, 1_000), 'Deepest nesting of the JSON.'),
  MAX_STATE_BYTES: row(
    '1048576',
    kinds.wholeNumber(1, 134_217_728),
    'Largest serialised state of one entity, and largest result of a handler, in bytes.',
  ),
  MEMORY_BUDGET_MIB: row(
    '160',
    kinds.wholeNumber(16, 65_536),
    'What a worker may keep in memory of deliveries, states and versions, all its shards together, in MiB; the process itself takes about 150 more. Deliveries beyond it stay with the broker.',
  ),
  SHUTDOWN_TIMEOUT_MS: row(
    '30000',
    kinds.wholeNumber(1, longestMs),
    'From SIGTERM until a worker gives up waiting for what is in flight, in milliseconds.',
  ),
  HTTP_HOST: row(
    '127.0.0.1',
    kinds.matching(/^[A-Za-z0-9.:_%-]{1,255}$/, 'a host name or an IP address'),
    'Address on which a worker serves `/metrics`, `/healthz`, `/readyz`, `/status` and the console, which needs ADMIN_TOKEN or other users beyond loopback.',
  ),
  HTTP_PORT: row('9464', kinds.wholeNumber(0, 65_535), 'Its port; `0` takes any free one.'),
  ADMIN_TOKEN: secret(
    null,
    kinds.token,
    'The token of an operator, who changes things in the console and sees headers and bodies there. Unset, and no operator in TOKENS_FILE or TRUSTED_OPERATORS: nobody does.',
  ),
  READ_TOKEN: secret(
    null,
    kinds.token,
    'The token of a viewer, who reads where ADMIN_TOKEN is needed beyond loopback. `inorder status`, `inorder console` and the like show it to workers.',
  ),
  TOKENS_FILE: optional(
    kinds.matching(/^[^\0\r\n]+$/, 'the path of a file'),
    'Users with a token of their own, one a line: name, `viewer` or `operator`, and the SHA-256 of the token. Their names are in the audit trail. The file is read again when it has changed.',
  ),
  TRUSTED_USER_HEADER: optional(
    kinds.matching(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, 'the name of a header, such as `X-Forwarded-User`'),
    'The header in which an authenticating proxy names the user. It has to replace what a client sends in it.',
  ),
  TRUSTED_PROXIES: optional(kinds.addressRanges, 'From where TRUSTED_USER_HEADER is believed.'),
  TRUSTED_OPERATORS: optional(kinds.nameList, 'Which users of TRUSTED_USER_HEADER are operators. The others are viewers.'),
  SERVICE_NAME: row(
    'inorder',
    kinds.matching(
      /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/,
      'up to 100 letters, digits, dots, underscores and hyphens, starting with a letter or digit',
    ),
    'The `service` label of every metric, and the first part of the name that broker and store show of each connection.',
  ),
  LOG_LEVEL: row('info', kinds.oneOf(...logLevels), 'Least level that is logged; `debug` also prints stacks.'),
} as const satisfies Record<string, Variable<unknown>>;

export type VariableName = keyof typeof variables;
type Row = typeof variables;

/** The parsed values, by name. */
export type Values = {
  readonly [Name in VariableName]: Row[Name] extends { kind: ValueKind<infer T>; defaultText: infer D }
    ? D extends null
      ? T | null
      : T
    : never;
};

export const variableNames = Object.keys(variables) as readonly VariableName[];

export function isVariableName(name: string): name is VariableName {
  return Object.hasOwn(variables, name);
}

/** Rows of Markdown: variable, default, meaning with allowed values. */
export function renderVariablesTable(): string {
  const rows = variableNames.map((name) => {
    const { defaultText, kind, meaning } = variables[name];
    const shownDefault = defaultText === null ? '' : `\`${defaultText}\``;
    return `| \`${name}\` | ${shownDefault} | ${escapeCell(meaning)} ${escapeCell(capitalised(kind.allowed))}. |`;
  });
  return ['| Variable | Default | Meaning |', '|---|---|---|', ...rows, ''].join('\n');
}

/** A file with every variable commented out at its default. */
export function renderEnvExample(): string {
  const entries = variableNames.map((name) => {
    const { defaultText, kind, meaning, secret } = variables[name];
    const lines = wrap(plain(`${meaning} ${capitalised(kind.allowed)}.`), 98).map((line) => `# ${line}`);
    if (secret) lines.push(`# ${name}_FILE may name a file that holds it instead.`);
    return [...lines, `#${name}=${defaultText ?? ''}`, ''].join('\n');
  });
  return [
    '# Every variable of Inorder at its default. An empty one counts as unset; unknown ones that look like these',
    '# are refused. White space around a value is taken off, and quotes that reach Inorder are refused. Export them, or start',
    '# with `node --env-file=.env`.',
    '',
    ...entries,
  ].join('\n');
}

/** Lines for `--help`, for the given variables or all. */
export function renderVariablesHelp(names: readonly VariableName[] = variableNames): string {
  const width = Math.max(...names.map((name) => name.length));
  return names
    .map((name) => {
      const { defaultText, kind, meaning } = variables[name];
      const text = `${meaning} ${capitalised(kind.allowed)}.${defaultText === null ? '' : ` Default: ${defaultText}.`}`;
      const [first, ...others] = wrap(plain(text), 110 - width - 4);
      return [`  ${name.padEnd(width)}  ${first}`, ...others.map((line) => `  ${' '.repeat(width)}  ${line}`), ''].join('\n');
    })
    .join('');
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const plain = (text: string) => text.replaceAll('`', '');
const escapeCell = (text: string) => text.replaceAll('|', '\\|');
const capitalised = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
