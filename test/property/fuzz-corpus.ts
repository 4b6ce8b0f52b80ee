/**
 * What fuzzing begins with, for each target: what is good, what has been got wrong, and the words that its inputs are made of. Below are
 * inputs that failed, by their symptom, as they were after they were cut down: they are run first, each time. What took too long is told
 * by `npm run fuzz` alone, for a test would depend on the machine.
 */
import { commands } from '../../src/cli/run.ts';
import { variableNames, variables } from '../../src/config/variables.ts';
import { badForTheSequencer, badLines, type CorpusMessage, goodLines } from '../support/corpus.ts';
import type { Input, Target } from './fuzz-engine.ts';

type Corpus = Pick<Target, 'corpus' | 'words'>;

/** The password of every URL and token here. */
export const secret = 'hunter2-and-more';

/** Of a message, as JSON: the second part of an input. */
export interface MessageProperties {
  readonly routingKey?: unknown;
  readonly contentType?: unknown;
  readonly contentEncoding?: unknown;
  readonly messageId?: unknown;
  readonly type?: unknown;
  readonly timestamp?: unknown;
  readonly headers?: unknown;
  readonly unsequenced?: unknown;
  readonly first?: unknown;
}

const failed = {
  // A message whose headers only inherit attributes was read as a CloudEvent.
  headers: [['', '{"headers":{"__proto__":{"cloudEvents:specversion":"1.0"}}}']],
  // White space within a value took time with the square of its length.
  urls: [
    ['AMQP_URL', `amqp://x${'\u200b'.repeat(4_000)}x`],
    ['REDIS_URL', `redis://x${' '.repeat(8_000)}x`],
  ],
  variables: [[`STREAM=x${'\u200b'.repeat(4_000)}x`]],
} as const;

const bytesOf = (text: string) => Buffer.from(text).toString('latin1');

function messageInput(body: Uint8Array, properties: MessageProperties): Input {
  return [Buffer.from(body).toString('latin1'), bytesOf(JSON.stringify(properties))];
}

/** Not the large ones, which would only be repeated. */
function inputsOf(messages: readonly CorpusMessage[]): Input[] {
  const small = messages.filter(({ body, headers = {} }) => body.length < 1_000 && Object.keys(headers).length < 50);
  return small.map(({ body, ...properties }) => messageInput(body, properties));
}

const lines = [...badLines, ...badForTheSequencer, ...goodLines].map(({ message }) => message);
const isCloudEvent = ({ contentType, headers = {}, body }: CorpusMessage) =>
  contentType?.includes('cloudevents') ||
  body.includes('specversion') ||
  Object.keys(headers).some((name) => /^c(e|loudEvents)[-_:]/i.test(name));

const full = {
  id: '9f1c',
  entity_type: 'order',
  entity_id: '4711',
  sequence: 1,
  type: 'OrderCreated',
  timestamp: '2026-01-05T10:00:00Z',
  data: { items: [], total: 1.5 },
  metadata: { tenant: 'north', n: 1 },
};
const key = { routingKey: '4711', contentType: 'application/json' };
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

const jsonWords = [
  '0',
  '1',
  '1.0',
  '-0.0',
  '0.1e1',
  '12345678901234567890123',
  'null',
  '[]',
  '{}',
  '"a"',
  '"\\u00e9"',
  '"\\ud83d\\ude00"',
  '[1.0]',
];
const members = [
  '"id":',
  '"entity_type":',
  '"entity_id":',
  '"sequence":',
  '"type":',
  '"timestamp":',
  '"data":',
  '"metadata":',
  '"schema_version":',
];
const times = ['2026-02-30', '2026-01-31 08:00:00.25+02:00', '0001-01-01', '9999-12-31T23:59:59Z', '2026-01-31T08:00:60Z', '31/01/2026'];
const propertyWords = [
  ...[
    '"routingKey":',
    '"contentType":',
    '"contentEncoding":',
    '"messageId":',
    '"type":',
    '"timestamp":',
    '"headers":',
    '"unsequenced":"process"',
  ],
  ...['"first":0', 'application/json', 'application/cloudevents+json', 'text/plain', '; charset=utf-8', 'gzip', 'identity', 'utf-8'],
];
const attributes = [
  'specversion',
  'id',
  'source',
  'type',
  'subject',
  'time',
  'sequence',
  'entitytype',
  'datacontenttype',
  'dataschema',
  'data',
  'data_base64',
];
const prefixes = ['cloudEvents:', 'cloudEvents_', 'ce-', 'ce_', 'Ce-'];

const described = { specversion: '1.0', id: 'c-1', source: '/shop', type: 'Happened', subject: '4711', sequence: '1' };

function binaryEvent(prefix: string): Input {
  const given = { ...described, entitytype: 'order', tenant: 'north' };
  const headers = Object.fromEntries(Object.entries(given).map(([name, value]) => [prefix + name, value]));
  return messageInput(json({ n: 1 }), { ...key, headers });
}

const death = {
  count: 1,
  reason: 'expired',
  queue: 'events.shard.000',
  exchange: 'events',
  'routing-keys': ['4711'],
  time: { '!': 'timestamp', value: 1_700_000_000 },
};
const trace = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: 'a=b' };

const headers: Corpus = {
  corpus: [
    messageInput(json(full), { ...key, headers: { ...trace, 'x-death': [death, { ...death, reason: 'rejected' }] } }),
    messageInput(json(full), {
      ...key,
      headers: { 'x-death': [{ ...death, reason: 'delivery_limit' }], 'x-first-death-reason': 'maxlen' },
    }),
    messageInput(json(full), {
      ...key,
      headers: { nested: { '!': 'timestamp', value: 1 }, list: [1, 'two', { three: 3 }], raw: 'bytes:abc' },
    }),
    messageInput(json({ n: 1 }), { ...key, headers: JSON.parse('{"__proto__":{"cloudEvents:specversion":"1.0","x-death":[{}]}}') }),
    ...prefixes.map(binaryEvent),
    ...inputsOf(lines.filter((message) => message.headers !== undefined)),
  ],
  words: [
    ...propertyWords,
    '"x-death":',
    '"traceparent":',
    '"__proto__":',
    '"!":"timestamp"',
    '"value":',
    ...prefixes.flatMap((prefix) => attributes.map((name) => `"${prefix}${name}":`)),
  ],
};

const line = (fields: object) => JSON.stringify(fields);
const cloudEvent = { ...described, time: times[1], data: [1] };
const ndjsonFiles: readonly (readonly [options: object, content: string])[] = [
  [{}, `${line(full)}\n${line({ ...full, id: 'b', sequence: 2 })}\n`],
  [{ chunk: 7 }, `\ufeff${line(full)}\r\n\r\n${line({ ...full, id: 'b', sequence: 2 })}`],
  [{ chunk: 1 }, `${line({ ...full, data: 'é€\u{1f600}' })}\n`],
  [{ chunk: 64 }, JSON.stringify([full, { ...full, id: 'b', sequence: 2 }], null, 2)],
  [{ sequences: 'number' }, `${line({ ...full, sequence: undefined })}\n${line({ ...full, id: undefined, sequence: undefined })}\n`],
  [{ unsequenced: 'process' }, `${line({ type: 'Logged', data: 1 })}\n`],
  [
    { map: 'entity_id=aggregateId,type=data.kind,sequence="ver,sion"' },
    `${line({ aggregateId: 7, 'ver,sion': '1', data: { kind: 'Opened' } })}\n`,
  ],
  [{ format: 'cloudevents', chunk: 11 }, `${line(cloudEvent)}\n${line({ ...cloudEvent, id: 'c-2', sequence: 2 })}\n`],
  [
    { format: 'cloudevents', sequences: 'number' },
    `[${line({ ...cloudEvent, sequence: undefined })},\n${line({ ...cloudEvent, id: 'c-2', subject: undefined })}]`,
  ],
  [
    { entities: true },
    `${line({ entity_id: 'A-1', version: 3, state: { n: 1.5 } })}\n${line({ entity_type: 'order', entity_id: 'A-2', version: 1 })}\n`,
  ],
  [{}, `${line({ ...full, timestamp: times[0] })}\n{"entity_id":"4711",\n"type":"x"}\n{`],
  [{}, 'entity_id,type\nA,Opened\n'],
];
const csvFiles: readonly (readonly [options: object, content: string])[] = [
  [{}, 'entity_id,type,sequence,n\nA-1,Opened,1,"1,5"\nA-1,Closed,2,\n'],
  [{ chunk: 5, sequences: 'number' }, '\ufeffentity_id;type;note\r\nA-1;Opened;"two\r\nlines"\r\nA-1;Closed;"a ""quote"""\r\n'],
  [{ chunk: 3, sequences: 'number' }, 'sep=|\r\nentity_id|type\r\nA|Opened\r\n'],
  [
    { sequences: 'number', map: 'entity_id=Case ID,type="Activity, of it"' },
    'Case ID,"Activity, of it",Timestamp\n7,Opened,2026-01-31\n7,Closed,2026-02-30\n',
  ],
  [{ delimiter: 'tab', sequences: 'number' }, 'entity_id\ttype\ttimestamp\nA\tOpened\t2026-01-31 08:00\n\nA\tClosed\t\n'],
  [{ unsequenced: 'process' }, 'entity_id,type\nA,Opened,extra\nB\n"C,Open\n'],
  [{}, 'aggregateId,event_name,seq\nA,Opened,1\n'],
  [{}, '[{"entity_id":"A"}]'],
];
const fileInput =
  (format: string) =>
  ([options, content]: readonly [options: object, content: string]): Input => [
    bytesOf(JSON.stringify({ format, ...options })),
    bytesOf(content),
  ];
const fileWords = [
  '"chunk":1',
  '"map":',
  '"delimiter":";"',
  '"sequences":"number"',
  '"unsequenced":"process"',
  '"entities":true',
  '"format":"csv"',
  '"format":"cloudevents"',
];

const login = `user:${secret}@`;
const urls: readonly Input[] = [
  ...[
    'amqp://localhost',
    `amqps://${login}broker:5671/vhost?heartbeat=10`,
    `amqp://${login}a:5672,amqp://b:5673`,
    'amqp://[::1]:5672/%2F',
    'amqp:host',
  ].map((url) => ['AMQP_URL', url]),
  ...[
    'redis://localhost',
    `rediss://${login}cache:6380/3`,
    `redis+sentinel://${login}s1:26379,s2/main/1?sentinel_user=u&sentinel_password=${secret}`,
  ].map((url) => ['REDIS_URL', url]),
  ...['redis+cluster://a:7000,b:7001', 'redis://a,redis://b', 'redis://localhost?tls=true', `redis://:${secret}@h`, 'redis://a/16'].map(
    (url) => ['REDIS_URL', url],
  ),
  ...[
    `postgres://${login}db:5432/inorder?sslmode=verify-full`,
    'postgresql:///x?host=/tmp',
    `postgres://${login}db/x?sslmode=no-verify`,
  ].map((url) => ['DATABASE_URL', url]),
  ...[`http://${login}127.0.0.1:15672`, 'https://broker.example/prefix'].map((url) => ['MANAGEMENT_URL', url]),
];
const urlWords = [
  'amqp://',
  'amqps://',
  'redis://',
  'rediss://',
  'redis+cluster://',
  'redis+sentinel://',
  'postgres://',
  'http://',
  login,
  ':0',
  ':65536',
  '[::1]',
  '%2F',
  '?tls=true',
  '?host=',
  '#',
  ',',
  '/main',
  '?heartbeat=',
  '?sslmode=',
];

/** What a name of a variable is often set to, right and wrong. */
const values = [
  '0',
  '1',
  '-1',
  '08',
  '1e3',
  '1.5',
  'true',
  'false',
  'TRUE',
  'any',
  'all',
  '0-3,6',
  '7-2',
  'none',
  'aof',
  'replicas:2',
  'buffer',
  'skip',
  'postgres',
  'redis',
  '"quoted"',
  '2147483648',
  secret,
];
const configs: readonly Input[] = [
  [],
  variableNames.flatMap((name) => (variables[name].defaultText === null ? [] : [`${name}=${variables[name].defaultText}`])),
  ['SHARDS=4', 'WORKER_SHARDS=0-3', 'WORKER_ORDINAL=1', 'WORKER_REPLICAS=2', 'PREFETCH=100', 'MAX_BUFFERED_PER_ENTITY=100'],
  [
    `ADMIN_TOKEN=${secret}-admin`,
    `READ_TOKEN=${secret}-admin`,
    'TRUSTED_USER_HEADER=x-user',
    'TRUSTED_PROXIES=10.0.0.0/8,::1',
    'TRUSTED_OPERATORS=ada',
  ],
  ['AMQP_AUTH=external', 'AMQP_URL=amqps://broker', 'AMQP_TLS_CERT_FILE=/nowhere/cert.pem', 'AMQP_TLS_KEY_FILE=/nowhere/key.pem'],
  [`DATABASE_URL=postgres://${login}db/inorder`, 'STATE_STORE=postgres', 'DURABILITY=aof', 'GAP_REPAIR=event-store', 'FIRST_SEQUENCE=0'],
  [
    'GAP_TIMEOUT_MS=0',
    'GAP_TIMEOUT_SECONDS=30',
    'PREFECTH=10',
    'TOKENS_FILE=/nowhere/tokens',
    'ADMIN_TOKEN_FILE=/nowhere/token',
    'STREAM=a b',
  ],
  ['RETRY_MAX_ATTEMPTS=1000', 'RETRY_INITIAL_MS=500', 'RETRY_MAX_MS=100', 'HANDLER_TIMEOUT_MS=600000', 'REPLY_QUEUES=a)|(b'],
  ...variableNames.map((name): Input => [`${name}=${variables[name].secret ? secret : 'x'}`]),
];

const commandLines: readonly Input[] = [
  ...commands.flatMap(({ name, options }): Input[] => [
    name.split(' '),
    [...name.split(' '), '--help'],
    [
      ...name.split(' '),
      ...Object.entries(options).flatMap(([option, { kind }]) => (kind === 'flag' ? [`--${option}`] : [`--${option}=x`])),
    ],
  ]),
  ...[
    '--version',
    'help',
    'help publish',
    'dlq list --json --limit 5',
    'dead-letters replay A-1 --yes --rate 10',
    'publish - --format csv --delimiter ; --shuffle 100',
  ].map((words) => words.split(' ')),
  ...[
    'publish x.csv --duplicate 0.05 --drop 1e-3 --seed 7 --rate 0.5',
    'dead-letters list --since 15m --reason gap_timeout --shard 3',
    'dead-letters list --since 2026-01-31 --group-by reason',
  ].map((words) => words.split(' ')),
  ['publish', '--map', 'entity_id="Case, ID",type=Activity', '--', '-x'],
  ['entity', 'show', '--', '--json'],
];
const optionWords = [
  ...new Set(commands.flatMap(({ name, options }) => [...name.split(' '), ...Object.keys(options).map((option) => `--${option}`)])),
];

export const fuzzCorpus = {
  decoder: { corpus: [...inputsOf(lines), messageInput(json(full), key)], words: [...members, ...jsonWords, ...propertyWords, ...times] },
  envelope: {
    corpus: [
      messageInput(json(full), key),
      messageInput(json({ type: 'Logged', data: 1 }), { ...key, unsequenced: 'process' }),
      messageInput(json({ ...full, sequence: 0, timestamp: undefined }), { ...key, first: 0, timestamp: 1_700_000_000 }),
      ...inputsOf(lines.filter((message) => !isCloudEvent(message))),
    ],
    words: [...members, ...jsonWords, ...times],
  },
  cloudevents: {
    corpus: [
      messageInput(json(cloudEvent), { ...key, contentType: 'application/cloudevents+json' }),
      ...prefixes.map(binaryEvent),
      ...inputsOf(lines.filter(isCloudEvent)),
    ],
    words: [...attributes.map((name) => `"${name}":`), ...prefixes.map((prefix) => `"${prefix}`), ...jsonWords, ...propertyWords, ...times],
  },
  headers: { ...headers, corpus: [...failed.headers, ...headers.corpus] },
  ndjson: {
    corpus: ndjsonFiles.map(fileInput('ndjson')),
    words: [...fileWords, ...members, ...jsonWords, ...attributes.map((name) => `"${name}":`), '\n'],
  },
  csv: {
    corpus: csvFiles.map(fileInput('csv')),
    words: [...fileWords, 'entity_id', 'type', 'sequence', 'timestamp', ',', ';', '\t', '|', '"', '""', '\r\n', '\n', 'sep=;\n'],
  },
  urls: { corpus: [...failed.urls, ...urls], words: urlWords },
  variables: {
    corpus: [...failed.variables, ...configs],
    words: [...variableNames.map((name) => `${name}=`), ...values, '_FILE=', '_MS='],
  },
  arguments: {
    corpus: commandLines,
    words: [...optionWords, ...values, '--', '-', '-h', '=', '--no-', '-1', '15m', '2026-01-31', 'entity_id=A,type="B"'],
  },
} as const satisfies Record<string, Corpus>;
