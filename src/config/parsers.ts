/**
 * The kinds of values of variables. Each describes what it accepts, for error messages, help and
 * README alike, and parses text into its value or null. None of them guesses or falls back to a
 * default: `08`, `1e3` and `0x10` are no whole numbers. White space around a value is removed before.
 */
import { isIPv4, isIPv6 } from 'node:net';
import type { FirstSequence } from '../ordering/facts.ts';
import type { Durability } from './config.ts';

export interface ValueKind<T> {
  /** Completes the sentence "it must be …". */
  readonly allowed: string;
  /** Null if the text is not allowed. */
  readonly parse: (text: string) => T | null;
  /** What is wrong with a text in itself, as the rest of the sentence "NAME: …"; null: nothing, or that it is not `allowed`. */
  readonly flaw?: (text: string) => string | null;
}

/** A whole number in decimal digits, with a minus if negative, from `min` to `max`; without `max` up to the largest exact number. */
export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER): ValueKind<number> {
  return {
    allowed: `a whole number from ${grouped(min)} ${max === Number.MAX_SAFE_INTEGER ? 'up' : `to ${grouped(max)}`}`,
    parse(text) {
      if (!/^(0|-?[1-9][0-9]{0,15})$/.test(text)) return null;
      const value = Number(text);
      return value >= min && value <= max ? value : null;
    },
  };
}

export function oneOf<const T extends string>(...values: readonly T[]): ValueKind<T> {
  return {
    allowed: values.length === 1 ? `\`${values[0]}\`` : `one of ${values.map((value) => `\`${value}\``).join(', ')}`,
    parse: (text) => values.find((value) => value === text) ?? null,
  };
}

export const trueOrFalse: ValueKind<boolean> = {
  allowed: '`true` or `false`',
  parse: (text) => (text === 'true' ? true : text === 'false' ? false : null),
};

/** Text that matches a pattern, unchanged. */
export function matching(pattern: RegExp, allowed: string): ValueKind<string> {
  return { allowed, parse: (text) => (pattern.test(text) ? text : null) };
}

export const filePath = matching(/^[^\0\r\n]+$/, 'the path of a file in PEM');

export const durability: ValueKind<Durability> = {
  allowed: '`none`, `aof`, or `replicas:` and a number from 1 to 9',
  parse(text) {
    if (text === 'none' || text === 'aof') return { kind: text };
    const [, count] = /^replicas:([1-9])$/.exec(text) ?? [];
    return count === undefined ? null : { kind: 'replicas', count: Number(count) };
  },
};

/** The first sequence of a stream's entities, or `any`. */
export const firstSequence: ValueKind<FirstSequence> = {
  allowed: '`0`, `1` or `any`',
  parse: (text) => (text === '0' ? 0 : text === '1' ? 1 : text === 'any' ? 'any' : null),
};

/** `all`, or numbers and ranges; they are checked against SHARDS later. */
export const shardList: ValueKind<'all' | readonly number[]> = {
  allowed: '`all`, or numbers and ranges such as `0-3,6`',
  parse(text) {
    if (text === 'all') return 'all';
    const shards = new Set<number>();
    for (const part of text.split(',')) {
      const match = /^\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*$/.exec(part);
      if (!match) return null;
      const first = Number(match[1]);
      const last = Number(match[2] ?? match[1]);
      if (last < first) return null;
      for (let shard = first; shard <= last; shard++) shards.add(shard);
    }
    return [...shards].sort((a, b) => a - b);
  },
};

/** One or more AMQP URLs, separated by commas (a comma in a password is written `%2C`). */
export const amqpUrls: ValueKind<readonly [string, ...string[]]> = {
  allowed: 'an `amqp://` or `amqps://` URL, or several separated by commas',
  parse(text) {
    const [first, ...others] = text.split(',').map((part) => part.trim());
    if (first === undefined || ![first, ...others].every((part) => isUrl(part, ['amqp:', 'amqps:']))) return null;
    return [first, ...others];
  },
  flaw: (text) => flawOf(text, 'amqp', ['heartbeat', 'frameMax', 'channelMax', 'maxFrameSize', 'locale'], tlsIs('AMQP')),
};

/** One Redis, the nodes of a cluster, or sentinels with the name of the master. */
export const redisUrl: ValueKind<string> = {
  allowed: 'a `redis://` or `rediss://` URL, `redis+cluster://host:port,host:port`, or `redis+sentinel://host:port,host:port/master-name`',
  parse(text) {
    const match = /^rediss?(?:\+(?:cluster|sentinel))?:\/\/(.*)$/.exec(text);
    if (!match) return null;
    const nodes = match[1]!.split(',').map((node) => `redis://${node.replace(/^rediss?:\/\//, '')}`);
    if (!nodes.every((node) => isUrl(node, ['redis:']))) return null;
    const path = new URL(nodes.at(-1)!).pathname;
    const allowedPath = redisFormOf(text) === 'sentinel' ? /^\/[^/]+(\/[0-9]+)?$/ : /^(\/[0-9]*)?$/;
    return allowedPath.test(path) ? text : null;
  },
  flaw(text) {
    const known = redisFormOf(text) === 'sentinel' ? ['sentinel_user', 'sentinel_password'] : [];
    return flawOf(text, 'redis', known, `a database is the path, and ${tlsIs('REDIS')}`);
  },
};

export type RedisForm = 'server' | 'sentinel' | 'cluster';

/** What the URL of a Redis names. */
export function redisFormOf(url: string): RedisForm {
  const [, form] = /^rediss?\+(sentinel|cluster):/.exec(url) ?? [];
  return (form as RedisForm | undefined) ?? (url.includes(',') ? 'cluster' : 'server');
}

export const postgresUrl: ValueKind<string> = {
  allowed: 'a `postgres://` or `postgresql://` URL with a database, such as `postgres://user:password@localhost:5432/inorder`',
  parse(text) {
    if (!isUrl(text, ['postgres:', 'postgresql:'])) return null;
    return /^\/[^/]+$/.test(new URL(text).pathname) ? text : null;
  },
  flaw: (text) => flawOf(text, 'postgres', postgresParameters, 'remove it') ?? postgresFlawOf(text),
};

export const httpUrl: ValueKind<string> = {
  allowed: 'an `http://` or `https://` URL',
  parse: (text) => (isUrl(text, ['http:', 'https:']) ? text : null),
  flaw: (text) => flawOf(text, 'http', [], 'remove it'),
};

/** Of the whole name, as the permissions of RabbitMQ would be with `^` and `$`. */
export const queuePattern: ValueKind<RegExp> = {
  allowed: 'a regular expression that the whole name of a queue has to match, such as `replies\\..*`',
  parse(text) {
    try {
      // On its own first: `a)|(b` must not get out of the brackets.
      new RegExp(text);
      return new RegExp(`^(?:${text})$`);
    } catch {
      return null;
    }
  },
};

/** What the client of PostgreSQL reads; then what providers write into URLs, and nobody misses. */
const postgresParameters = [
  ...['host', 'port', 'user', 'password', 'application_name', 'fallback_application_name', 'client_encoding', 'options'],
  ...['ssl', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'sslnegotiation', 'uselibpqcompat', 'channel_binding'],
  ...['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'query_timeout'],
  ...['connect_timeout', 'target_session_attrs', 'keepalives', 'keepalives_idle', 'keepalives_interval', 'keepalives_count'],
  ...['tcp_user_timeout', 'pgbouncer'],
];

/** What would lead elsewhere than the URL says, or let the client take any server for the right one: `name=value`, and why not. */
const postgresFlaws: readonly (readonly [RegExp, string])[] = [
  [/^(host|port|user|password)=/, 'would replace what stands before the ?: write it there'],
  [/^uselibpqcompat=/, 'lets sslmode=require verify nothing: remove it, and write sslmode=verify-full'],
  [/^sslmode=(?!(disable|prefer|require|verify-ca|verify-full)$)/, 'must be verify-full, or disable: with TLS the server is verified'],
  [/^channel_binding=(?!(disable|prefer|require)$)/, 'must be disable, prefer or require'],
  [/^ssl=(?!(true|1|0)$)/, 'must be true or 0: with TLS the server is verified'],
];

function postgresFlawOf(text: string): string | null {
  const [, query = ''] = /\?(.*)$/s.exec(text) ?? [];
  for (const [name, value] of new URLSearchParams(query))
    for (const [pattern, flaw] of postgresFlaws) if (pattern.test(`${name}=${value}`)) return `its parameter "${name}" ${flaw}`;
  return null;
}

const tlsIs = (service: 'AMQP' | 'REDIS') => `TLS is ${service.toLowerCase()}s:// with ${service}_TLS_CA_FILE and its like`;

/**
 * A parameter that nobody reads promises what is not done, and nodes of which only some have TLS get the password in clear. Names are
 * shown, unless they may be the rest of a password with a `?` or a `#` in it.
 */
function flawOf(text: string, scheme: string, known: readonly string[], remedy: string): string | null {
  // A comma may be in a password as well: another node begins with its scheme.
  const nodes = text.split(/,(?=\s*[a-z]+(?:\+[a-z]+)?:\/\/)/).map((node) => node.trim());
  const schemes = new Set(nodes.flatMap((node) => /^[a-z]+(?=(\+[a-z]+)?:\/\/)/.exec(node)?.[0] ?? []));
  if (schemes.has(`${scheme}s`) && schemes.has(scheme))
    return `some of its nodes are ${scheme}:// and others ${scheme}s://: use one of them`;
  for (const node of nodes) {
    const [, query, fragment] = /^[^?#]*(?:\?([^#]*))?(#.*)?$/s.exec(node) ?? [];
    if (fragment !== undefined || query?.includes('@')) return 'it has a ? or a # in a name or in the password: write %3F or %23';
    const unknown = [...new URLSearchParams(query ?? '').keys()].find((name) => !known.includes(name));
    if (unknown !== undefined) return `its parameter ${JSON.stringify(unknown)} has no effect: ${remedy}`;
  }
  return null;
}

export const token = matching(/^[\x21-\x7e]{16,512}$/, '16 to 512 visible ASCII characters');

/** Names separated by commas. */
export const nameList: ValueKind<readonly string[]> = {
  allowed: 'names of up to 100 characters, separated by commas',
  parse: (text) => partsOf(text, (name) => /^[^\p{C}]{1,100}$/u.test(name)),
};

/** Of IPv4 and IPv6, separated by commas. */
export const addressRanges: ValueKind<readonly string[]> = {
  allowed: 'addresses and ranges such as `10.0.0.7,10.1.0.0/16,fd00::/8`',
  parse: (text) =>
    partsOf(text, (range) => {
      const [address = '', bits = '1', ...others] = range.split('/');
      const most = isIPv4(address) ? 32 : isIPv6(address) ? 128 : -1;
      // The range of all addresses would believe everybody.
      return others.length === 0 && /^[1-9]\d{0,2}$/.test(bits) && Number(bits) <= most;
    }),
};

function partsOf(text: string, isAllowed: (part: string) => boolean): readonly string[] | null {
  const parts = text.split(',').map((part) => part.trim());
  return parts.every(isAllowed) ? parts : null;
}

function isUrl(text: string, protocols: readonly string[]): boolean {
  // The scheme is compared as text first: `new URL` also takes `amqp:host` and strips line ends and tabs.
  if (/[\s,]/.test(text) || !protocols.some((protocol) => text.startsWith(`${protocol}//`))) return false;
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return url.hostname !== '' && url.port !== '0' && isPercentDecodable(url);
}

// Credentials and virtual hosts are decoded by the clients, which throw on a stray percent sign.
function isPercentDecodable(url: URL): boolean {
  try {
    [url.username, url.password, url.pathname].forEach(decodeURIComponent);
    return true;
  } catch {
    return false;
  }
}

function grouped(value: number): string {
  return value.toLocaleString('en-US');
}
