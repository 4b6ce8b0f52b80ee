import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { loadConfig, type Environment } from '../../src/config/load.ts';
import { renderEnvExample, renderVariablesHelp, renderVariablesTable, variableNames } from '../../src/config/variables.ts';
import { ConfigError } from '../../src/errors.ts';
import { Authority, needsOpenssl } from '../support/certificates.ts';
import { checkout } from '../support/checkout.ts';

function problemsOf(env: Environment): readonly string[] {
  try {
    loadConfig(env);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

/** The one problem of an environment. */
function problemOf(env: Environment): string {
  const problems = problemsOf(env);
  assert.equal(problems.length, 1, `${JSON.stringify(env)} has ${problems.length} problems: ${problems.join(' | ')}`);
  return problems[0]!;
}

test('an empty environment gives the defaults of the design', () => {
  const config = loadConfig({});
  assert.equal(config.broker.stream, 'events');
  assert.equal(config.broker.shards, 8);
  assert.deepEqual(config.broker.workerShards, [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(config.broker.prefetch, 1_000);
  assert.equal(config.ordering.strategy, 'buffer');
  assert.equal(config.ordering.gapTimeoutMs, 30_000);
  assert.equal(config.ordering.gapTimeoutAction, 'dead-letter');
  assert.equal(config.ordering.maxHeldPerEntity, 1_000);
  assert.equal(config.ordering.firstSequence, 1);
  assert.equal(config.ordering.unsequenced, 'reject');
  assert.equal(config.store.idempotencyTtlSeconds, 86_400);
  assert.equal(config.processing.retryMaxAttempts, 5);
  assert.equal(config.broker.topology, 'declare');
  assert.deepEqual(config.http, {
    host: '127.0.0.1',
    port: 9464,
    adminToken: null,
    readToken: null,
    tokens: [],
    tokensFile: null,
    proxy: null,
  });
  assert.deepEqual(config.warnings, []);
});

test('a shard holds at most 80 % of its prefetch, so that the missing event can be delivered', () => {
  assert.equal(loadConfig({}).ordering.maxHeld, 800);
  assert.equal(loadConfig({ PREFETCH: '3' }).ordering.maxHeld, 2);
});

test('an empty variable counts as unset', () => {
  assert.deepEqual(loadConfig({ SHARDS: '', AMQP_URL: '', AMQP_URL_FILE: '' }), loadConfig({}));
});

test('the configuration is frozen to its leaves', () => {
  const { broker } = loadConfig({});
  assert.throws(() => Object.assign(broker, { shards: 3 }), TypeError);
  assert.throws(() => (broker.workerShards as number[]).push(9), TypeError);
});

test('all problems are reported at once, each naming its variable, its value and what is allowed', () => {
  const problems = problemsOf({ SHARDS: '1.5', PREFETCH: '0', LOG_LEVEL: 'loud', GAP_TIMEOUT: '5' });
  assert.deepEqual([...problems].sort(), [
    'GAP_TIMEOUT is not a variable of Inorder: did you mean GAP_TIMEOUT_MS?',
    'LOG_LEVEL is "loud": it must be one of `debug`, `info`, `warn`, `error`',
    'PREFETCH is "0": it must be a whole number from 3 to 65,535',
    'SHARDS is "1.5": it must be a whole number from 1 to 1,000',
  ]);
});

const refused: Readonly<Record<string, readonly string[]>> = {
  SHARDS: ['0', '1.5', '1000000', '-1', '1e2', '0x8', '8 9', '08', 'eight', '٨'],
  // Windows of 2 and buffers of 1 hold nothing: each early event would end its gap at once.
  PREFETCH: ['0', '1', '2', '65536'],
  MAX_BUFFERED_PER_ENTITY: ['0', '1'],
  GAP_TIMEOUT_MS: ['0', 'NaN', '2147483648', '600001', 'Infinity', '30s'],
  WORKER_SHARDS: ['3-1', 'some', '1,,2', '-1', '0-', '1;2'],
  FIRST_SEQUENCE: ['-1', '2', 'ANY'],
  GAP_TIMEOUT_ACTION: ['skip', 'true'],
  ORDERING_VIOLATION_STRATEGY: ['log', 'Buffer', 'process'],
  UNSEQUENCED: ['true'],
  AUTO_REPLAY: ['1', 'yes', 'TRUE'],
  TOPOLOGY: ['false'],
  STREAM: ['amq.x', 'a b', '{x}', '-x', 'x'.repeat(101), 'x\u3000y'],
  HTTP_PORT: ['65536', '-1', 'tcp://10.0.0.1:80'],
  HTTP_HOST: ['a b'],
  ENTITY_TYPE: ['a\u0007b'],
  MANAGEMENT_URL: ['localhost:15672', 'amqp://localhost'],
  AMQP_URL: ['localhost', 'amqp:localhost', 'http://localhost', 'amqp://', 'amqp://a,', 'amqp://a:99999', 'amqp://u:%@h', 'amqp://a b'],
  REDIS_URL: [
    'localhost:6379',
    'redis:localhost',
    'http://localhost',
    'redis+sentinel://a:1',
    'redis://h/x',
    'redis+cluster://a:1/x',
    'redis+cluster://,a',
  ],
};

for (const [name, values] of Object.entries(refused)) {
  test(`${name} refuses ${values.map((value) => JSON.stringify(value)).join(', ')}`, () => {
    for (const value of values) assert.match(problemOf({ [name]: value }), new RegExp(`^${name}\\b.*it must be`, 's'), value);
  });
}

test('URLs of clusters, sentinels and with encoded credentials are accepted', () => {
  const urls = loadConfig({ AMQP_URL: 'amqp://u:p%2Cw@a:5672/%2F, amqp://b' }).broker.urls;
  assert.deepEqual(urls, ['amqp://u:p%2Cw@a:5672/%2F', 'amqp://b']);
  for (const url of [
    'rediss://:pw@h:6380/2',
    'redis+cluster://h:1,i:2',
    'redis://h:1,redis://i:2/0',
    'rediss+sentinel://:pw@h:1,[::1]:2/mymaster',
  ]) {
    assert.equal(loadConfig({ REDIS_URL: url }).store.redisUrl, url);
  }
});

for (const [variable, url, problem] of [
  [
    'REDIS_URL',
    'redis://h?tls=true',
    'its parameter "tls" has no effect: a database is the path, and TLS is rediss:// with REDIS_TLS_CA_FILE and its like',
  ],
  [
    'REDIS_URL',
    'redis+cluster://h?db=1,i',
    'its parameter "db" has no effect: a database is the path, and TLS is rediss:// with REDIS_TLS_CA_FILE and its like',
  ],
  ['REDIS_URL', 'rediss://h,redis://i', 'some of its nodes are redis:// and others rediss://: use one of them'],
  ['AMQP_URL', 'amqps://h?verify=verify_none', 'its parameter "verify" has no effect: TLS is amqps:// with AMQP_TLS_CA_FILE and its like'],
  ['AMQP_URL', 'amqps://h,amqp://i', 'some of its nodes are amqp:// and others amqps://: use one of them'],
  ['AMQP_URL', 'amqp://u:1?hush@h', 'it has a ? or a # in a name or in the password: write %3F or %23'],
  ['AMQP_URL', 'amqp://u:1?hush,b@h', 'it has a ? or a # in a name or in the password: write %3F or %23'],
  ['AMQP_URL', 'amqp://u:1#hush@h', 'it has a ? or a # in a name or in the password: write %3F or %23'],
  ['MANAGEMENT_URL', 'http://h?x=1', 'its parameter "x" has no effect: remove it'],
  ['DATABASE_URL', 'postgres://h/d?sslmode=verify-full&requirepeer=postgres', 'its parameter "requirepeer" has no effect: remove it'],
  [
    'DATABASE_URL',
    'postgres://h/d?sslmode=verify-full&channel_binding=yes',
    'its parameter "channel_binding" must be disable, prefer or require',
  ],
  ...['host', 'port', 'user', 'password'].map(
    (name) =>
      [
        'DATABASE_URL',
        `postgres://h/d?${name}=1`,
        `its parameter "${name}" would replace what stands before the ?: write it there`,
      ] as const,
  ),
  [
    'DATABASE_URL',
    'postgres://h/d?sslmode=require&uselibpqcompat=true',
    'its parameter "uselibpqcompat" lets sslmode=require verify nothing: remove it, and write sslmode=verify-full',
  ],
  [
    'DATABASE_URL',
    'postgres://h/d?sslmode=no-verify',
    'its parameter "sslmode" must be verify-full, or disable: with TLS the server is verified',
  ],
  ...['no-verify', 'false'].map(
    (ssl) =>
      ['DATABASE_URL', `postgres://h/d?ssl=${ssl}`, 'its parameter "ssl" must be true or 0: with TLS the server is verified'] as const,
  ),
] as const) {
  test(`${variable}=${url} is refused for a part that has no effect, or a bad one`, () => {
    assert.equal(problemOf({ [variable]: url }), `${variable}: its value is not shown; ${problem}`);
  });
}

test('parameters of URLs that the clients read are accepted, and what providers write into those of PostgreSQL', () => {
  for (const env of [
    { AMQP_URL: 'amqps://h?heartbeat=30&channelMax=100' },
    { REDIS_URL: 'rediss+sentinel://h/main?sentinel_user=u&sentinel_password=p' },
    { DATABASE_URL: 'postgres://h/d?sslmode=verify-full&sslrootcert=/ca.pem&application_name=a&connect_timeout=10&pgbouncer=true' },
  ])
    assert.deepEqual(problemsOf(env), []);
});

test('files of TLS are named with what is wrong with them, and need a URL with TLS', needsOpenssl, async (t) => {
  const authority = await Authority.create(t);
  const [one, other] = [await authority.issue('one'), await authority.issue('other')];
  const amqps = { AMQP_URL: 'amqps://h', AMQP_TLS_CERT_FILE: one.certFile, AMQP_TLS_KEY_FILE: one.keyFile };
  const { caFile } = authority;
  assert.deepEqual(loadConfig({ ...amqps, AMQP_TLS_CA_FILE: caFile, AMQP_TLS_SERVER_NAME: 'rabbit' }).broker.tls, {
    caFile,
    ...one,
    serverName: 'rabbit',
  });
  assert.deepEqual(loadConfig({ ...amqps, AMQP_AUTH: 'external' }).broker.auth, 'external');
  const chain = `${one.certFile}.chain`;
  writeFileSync(chain, `${readFileSync(one.certFile, 'utf8')}-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n`);
  for (const [env, problem] of [
    [{ ...amqps, AMQP_TLS_CERT_FILE: chain }, /^AMQP_TLS_CERT_FILE, AMQP_TLS_KEY_FILE: the files cannot be used \(.+\)$/],
    [
      { AMQP_TLS_CA_FILE: caFile },
      /^AMQP_TLS_CA_FILE is set, and AMQP_URL begins with amqp, which is without TLS: let it begin with amqps, or unset it$/,
    ],
    [{ REDIS_URL: 'redis+cluster://h', REDIS_TLS_SERVER_NAME: 'h' }, /^REDIS_TLS_SERVER_NAME is set, and REDIS_URL begins with redis, /],
    [{ ...amqps, AMQP_TLS_CA_FILE: '/nowhere' }, /^AMQP_TLS_CA_FILE is "\/nowhere": the file cannot be read \(ENOENT\)$/],
    [{ ...amqps, AMQP_TLS_CA_FILE: one.keyFile }, /^AMQP_TLS_CA_FILE is ".+": it holds no certificate in PEM$/],
    [{ ...amqps, AMQP_TLS_KEY_FILE: caFile }, /^AMQP_TLS_KEY_FILE is ".+": it holds no private key without a passphrase in PEM$/],
    [{ ...amqps, AMQP_TLS_KEY_FILE: other.keyFile }, /^AMQP_TLS_KEY_FILE is ".+": it is not the key of the certificate in ".+"$/],
    [{ ...amqps, AMQP_TLS_KEY_FILE: '' }, /^AMQP_TLS_CERT_FILE is set, and AMQP_TLS_KEY_FILE is not: .* set both$/],
    [{ ...amqps, AMQP_TLS_SERVER_NAME: '10.0.0.1' }, /^AMQP_TLS_SERVER_NAME is "10\.0\.0\.1": it must be a host name, no IP address$/],
    [{ AMQP_URL: 'amqps://h', AMQP_AUTH: 'external' }, /^AMQP_AUTH is `external`, and AMQP_TLS_CERT_FILE is not set/],
    [
      { ...amqps, AMQP_URL: 'amqps://u:hush@h', AMQP_AUTH: 'external' },
      /^AMQP_AUTH is `external`, and AMQP_URL has a user or a password: remove them/,
    ],
  ] as const)
    assert.match(problemOf(env), problem);
});

test('WORKER_SHARDS takes ranges and repeats, and only shards that exist', () => {
  assert.deepEqual(loadConfig({ WORKER_SHARDS: '6, 0-3,2' }).broker.workerShards, [0, 1, 2, 3, 6]);
  assert.equal(problemOf({ WORKER_SHARDS: '0-3,8,9' }), 'WORKER_SHARDS names 8, 9: with SHARDS 8 there are shards 0 to 7');
});

test('a prefetch below a window that was set is refused, while the default window gives way', () => {
  assert.match(problemOf({ PREFETCH: '100', MAX_BUFFERED_PER_ENTITY: '101' }), /^PREFETCH is 100, below the window/);
  assert.equal(loadConfig({ PREFETCH: '100', MAX_BUFFERED_PER_ENTITY: '100' }).ordering.maxHeldPerEntity, 100);
  assert.equal(loadConfig({ PREFETCH: '100' }).ordering.maxHeldPerEntity, 100);
});

test('retries that could outlast the consumer timeout are refused', () => {
  assert.match(problemOf({ RETRY_MAX_ATTEMPTS: '60' }), /RETRY_MAX_ATTEMPTS.*3\d minutes.*consumer_timeout/);
  assert.match(problemOf({ RETRY_INITIAL_MS: '200', RETRY_MAX_MS: '100' }), /^RETRY_MAX_MS is 100/);
});

test('a secret is never in a problem', () => {
  const password = 'correct-horse';
  const env = {
    AMQP_URL: `http://u:${password}@h`,
    REDIS_URL: `${password}`,
    MANAGEMENT_URL: `ftp://u:${password}@h`,
    SHARDS: '0',
  };
  const problems = problemsOf(env);
  assert.equal(problems.length, 4);
  assert.ok(!problems.join().includes(password));
});

test('white space around a value is none of it, seen or unseen, and leaves nothing of a blank one', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'inorder-blank-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'url');
  for (const [before, after] of [
    [' ', ' '],
    ['', '\r'],
    ['\t', '\r\n'],
    ['\ufeff', '\u00a0'],
    ['\u200b', '\u200b'],
    ['\u2060\u00a0 ', '\u200e'],
  ] as const) {
    const within = (text: string) => `${before}${text}${after}`;
    const env = {
      SHARDS: within('4'),
      STREAM: within('s'),
      UNSEQUENCED: within('process'),
      ENTITY_TYPE: within('a b'),
      AMQP_URL: within('amqp://h'),
      HTTP_PORT: within(''),
    };
    const config = loadConfig(env);
    assert.deepEqual(
      [config.broker.shards, config.broker.stream, config.ordering.unsequenced, config.processing.entityType],
      [4, 's', 'process', 'a b'],
      JSON.stringify(after),
    );
    assert.deepEqual([config.broker.urls, config.http.port], [['amqp://h'], 9464]);
    writeFileSync(path, within('redis://:pw@h:6379'));
    assert.equal(loadConfig({ REDIS_URL_FILE: within(path), REDIS_URL: within('') }).store.redisUrl, 'redis://:pw@h:6379');
  }
});

test('quotes around a value, and what is invisible within it, are named for every variable at once', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'inorder-quotes-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'token');
  writeFileSync(path, '"0123456789abcdef"\n');
  const remove = 'it stands in quotes, which belong to where it was copied from: remove them';
  assert.deepEqual(
    problemsOf({
      SHARDS: '"8"',
      ENTITY_TYPE: "'order' ",
      AMQP_URL: '“amqp://me:hush@h”',
      ADMIN_TOKEN_FILE: path,
      STREAM: 'a\u200bb',
      PROCESSOR: 'my\u00a0processor.js',
      REDIS_URL: 'redis://h\r\nredis://i',
    }),
    [
      'AMQP_URL: its value is not shown; ' + remove,
      'REDIS_URL: its value is not shown; it has a line end in it: remove it',
      'STREAM is "a\\u200bb": it has a zero-width space (U+200B) in it: remove it',
      `SHARDS is "\\"8\\"": ${remove}`,
      'PROCESSOR is "my\\u00a0processor.js": it has a no-break space (U+00A0) in it: remove it',
      `ENTITY_TYPE is "'order'": ${remove}`,
      `ADMIN_TOKEN: its value is not shown; ${remove}`,
    ],
  );
  writeFileSync(path, Buffer.from('0123456789abcdef\r\n', 'utf16le'));
  assert.equal(
    problemOf({ ADMIN_TOKEN_FILE: path }),
    'ADMIN_TOKEN: its value is not shown; it has a character that is not UTF-8 in it: remove it',
  );
});

test('names that were copied with something around them are near misses', () => {
  for (const name of ['\ufeffSHARDS', 'export SHARDS', ' SHARDS', 'INORDER_SHARDS', '"SHARDS"', 'SHARDS\u00a0'])
    assert.match(problemOf({ [name]: '4' }), /^.+ is not a variable of Inorder: did you mean SHARDS\?$/, name);
  assert.equal(problemOf({ '\ufeffSHARDS': '4' }), '"\\ufeffSHARDS" is not a variable of Inorder: did you mean SHARDS?');
  assert.deepEqual(problemsOf({ INORDER_SERVICE_HOST: '10.0.0.1', INORDER_PORT: 'tcp://10.0.0.1:80' }), []);
});

test('a _FILE variable is read without its last line end; two sources, no file and an empty file are refused', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'inorder-config-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'url');
  writeFileSync(path, 'redis://:pw@h:6379\r\n');
  assert.equal(loadConfig({ REDIS_URL_FILE: path }).store.redisUrl, 'redis://:pw@h:6379');
  assert.match(problemOf({ REDIS_URL_FILE: path, REDIS_URL: 'redis://h' }), /^REDIS_URL and REDIS_URL_FILE are both set/);
  assert.match(problemOf({ AMQP_URL_FILE: join(directory, 'none') }), /^AMQP_URL_FILE is .* cannot be read \(ENOENT\)/);
  assert.equal(
    problemOf({ ADMIN_TOKEN_FILE: 'hush-hush-hush-hush' }),
    'ADMIN_TOKEN_FILE: its value is not shown; the file cannot be read (ENOENT)',
  );
  assert.match(problemOf({ SHARDS_FILE: path }), /^SHARDS_FILE is set, but SHARDS cannot be given as a file/);
  writeFileSync(path, '\n');
  assert.match(problemOf({ AMQP_URL_FILE: path }), /the file is empty/);
});

test('the token of the console is a secret of at least 16 characters', (t) => {
  assert.equal(loadConfig({}).http.adminToken, null);
  assert.equal(loadConfig({ ADMIN_TOKEN: '0123456789abcdef' }).http.adminToken, '0123456789abcdef');
  assert.match(problemOf({ ADMIN_TOKEN: 'hush-hush-hush!' }), /^ADMIN_TOKEN: its value is not shown; it must be 16 to 512/);
  const directory = mkdtempSync(join(tmpdir(), 'inorder-token-'));
  t.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'token'), 'a token with spaces is none');
  assert.match(problemOf({ ADMIN_TOKEN_FILE: join(directory, 'token') }), /^ADMIN_TOKEN: its value is not shown/);
});

test('a file of tokens is refused line by line, and nothing of it is shown', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'inorder-tokens-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'tokens');
  const hash = 'ab'.repeat(32);
  writeFileSync(path, `# who\n\nalice operator ${hash}\nbob owner ${hash}\ncarol viewer hush-hush-hush-hush\ndan viewer ${hash}\n`);
  const line = (number: number) => `TOKENS_FILE, line ${number}: `;
  assert.deepEqual(problemsOf({ TOKENS_FILE: path }), [
    `${line(4)}it must be a name, \`viewer\` or \`operator\`, and 64 hex digits, the SHA-256 of the token`,
    `${line(5)}it must be a name, \`viewer\` or \`operator\`, and 64 hex digits, the SHA-256 of the token`,
    `${line(6)}another line has the same token: each needs one of its own`,
  ]);
  assert.match(problemOf({ TOKENS_FILE: join(directory, 'none') }), /^TOKENS_FILE is .* cannot be read \(ENOENT\)/);
  for (const name of ['ADMIN_TOKEN', 'READ_TOKEN']) {
    writeFileSync(path, `alice viewer ${createHash('sha256').update('0123456789abcdef').digest('hex')}\n`);
    const problem = problemOf({ TOKENS_FILE: path, [name]: '0123456789abcdef' });
    assert.equal(problem, `${line(1)}${name} has the same token: each needs one of its own`);
  }
  writeFileSync(path, `alice operator ${hash}\r\n`);
  assert.deepEqual(loadConfig({ TOKENS_FILE: path }).http.tokens, [{ name: 'alice', role: 'operator', hash }]);
});

test('users that contradict each other are refused', () => {
  const token = '0123456789abcdef';
  assert.match(problemOf({ ADMIN_TOKEN: token, READ_TOKEN: token }), /^READ_TOKEN is the same as ADMIN_TOKEN/);
  assert.match(problemOf({ TRUSTED_USER_HEADER: 'X-User' }), /^TRUSTED_USER_HEADER is set, and TRUSTED_PROXIES is not/);
  for (const name of ['TRUSTED_PROXIES', 'TRUSTED_OPERATORS'])
    assert.match(problemOf({ [name]: '10.0.0.7' }), /TRUSTED_USER_HEADER is not: name the header/);
  for (const range of ['10.0.0', '0.0.0.0/0', '10.0.0.0/33', 'fd00::/129', '10.0.0.0/8/8', 'proxy.example', '10.0.0.7,'])
    assert.match(
      problemOf({ TRUSTED_USER_HEADER: 'X-User', TRUSTED_PROXIES: range }),
      /^TRUSTED_PROXIES is .* it must be addresses/,
      range,
    );
});

test('a store in PostgreSQL needs to be told where that is', () => {
  assert.match(problemOf({ DURABILITY: 'replicas:0' }), /^DURABILITY is "replicas:0": it must be `none`, `aof`, or `replicas:`/);
  assert.match(
    problemOf({ DURABILITY: 'aof', STATE_STORE: 'postgres', DATABASE_URL: 'postgres://u:pw@h/d' }),
    /^DURABILITY is for Redis: .*synchronous_commit/,
  );
  for (const url of ['redis+cluster://a:1,b:2', 'redis://a:1,b:2', 'rediss://a,rediss://b', 'redis+cluster://a'])
    assert.match(problemOf({ DURABILITY: 'replicas:2', REDIS_URL: url }), /^DURABILITY is for one Redis .* names a cluster/, url);
  assert.ok(loadConfig({ DURABILITY: 'aof', REDIS_URL: 'redis+sentinel://a,b/master' }));
  assert.deepEqual(loadConfig({ DURABILITY: 'replicas:2' }).store.durability, { kind: 'replicas', count: 2 });
  assert.match(problemOf({ STATE_STORE: 'postgres' }), /^STATE_STORE is `postgres`, and DATABASE_URL is not set/);
  assert.match(
    problemOf({ STATE_STORE: 'postgres', DATABASE_URL: 'postgres://u:pw@h' }),
    /^DATABASE_URL: its value is not shown; it must be a `postgres/,
  );
  const { store, warnings } = loadConfig({ STATE_STORE: 'postgres', DATABASE_URL: 'postgres://u:pw@h/d' });
  assert.deepEqual([store.kind, store.databaseUrl, warnings], ['postgres', 'postgres://u:pw@h/d', []]);
});

test('dead letters are replayed automatically only where that is chosen', () => {
  const chosen = [{}, { AUTO_REPLAY: 'false' }, { AUTO_REPLAY: 'true' }].map((env) => loadConfig(env).processing.autoReplay);
  assert.deepEqual(chosen, [false, false, true]);
});

test('a DATABASE_URL that nobody uses is accepted, with a warning', () => {
  assert.match(
    loadConfig({ DATABASE_URL: 'postgres://u:pw@h/d', EVENT_STORE: 'redis' }).warnings.join(),
    /^DATABASE_URL is set and not used[^@]*$/,
  );
});

test('a management API in clear beside AMQP with TLS is accepted, with a warning, unless it is on this machine', () => {
  const warned = (url: string) => loadConfig({ AMQP_URL: 'amqps://h', MANAGEMENT_URL: url }).warnings.length;
  assert.deepEqual(['http://u:pw@h:15672', 'http://h', 'http://localhost:pw@h'].map(warned), [1, 1, 1]);
  assert.deepEqual(['https://u:pw@h', 'http://u:pw@localhost:15672', 'http://127.0.0.1', 'http://u:pw@[::1]:1'].map(warned), [0, 0, 0, 0]);
  assert.deepEqual(loadConfig({ AMQP_URL: 'amqp://h', MANAGEMENT_URL: 'http://h' }).warnings, []);
});

for (const [typed, meant] of [
  ['PREFECTH', 'PREFETCH'],
  ['GAP_TIMEOUT', 'GAP_TIMEOUT_MS'],
  ['GAP_TIMEOUT_SECONDS', 'GAP_TIMEOUT_MS'],
  ['IDEMPOTENCY_TTL', 'IDEMPOTENCY_TTL_SECONDS'],
  ['WORKER_SHARD', 'WORKER_SHARDS'],
  ['ORDERING_VIOLATIONS_STRATEGY', 'ORDERING_VIOLATION_STRATEGY'],
  ['AMQP_URLS', 'AMQP_URL'],
  ['AMQP_ULR_FILE', 'AMQP_URL_FILE'],
  ['shards', 'SHARDS'],
  ['AMQP_CA', 'AMQP_TLS_CA_FILE'],
  ['AMQP_CACERTFILE', 'AMQP_TLS_CA_FILE'],
  ['REDIS_TLS_CA', 'REDIS_TLS_CA_FILE'],
  ['REDIS_SSL_CA_CERTS', 'REDIS_TLS_CA_FILE'],
  ['AMQP_CLIENT_CERT', 'AMQP_TLS_CERT_FILE'],
  ['REDIS_TLS_KEY', 'REDIS_TLS_KEY_FILE'],
  ['AMQP_KEY_PATH', 'AMQP_TLS_KEY_FILE'],
  ['REDIS_SNI', 'REDIS_TLS_SERVER_NAME'],
  ['PROCESOR', 'PROCESSOR'],
] as const) {
  test(`${typed} is refused as a misspelt ${meant}`, () => {
    assert.equal(problemOf({ [typed]: '1' }), `${typed} is not a variable of Inorder: did you mean ${meant}?`);
  });
}

test("other programs' variables are nobody's misspelling", () => {
  const strangers =
    'HTTP_PROXY HTTPS_PROXY http_proxy NO_PROXY HTTPS_PORT SMTP_HOST SMTP_PORT FTP_PORT LOGNAME LOGLEVEL LOG_FORMAT ' +
    'PATH HOME HOST PORT HOSTNAME USER SHELL TERM TZ LANG PWD SHLVL NODE_ENV NODE_OPTIONS npm_config_user_agent CI DEBUG ' +
    'REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_URI REDIS_SERVICE_HOST REDIS_SERVICE_PORT REDIS_KEY REDIS_KEY_PREFIX REDIS_TLS_URL REDIS_TLS_PORT REDIS_PORT_6379_TCP AMQP_HOST ' +
    'AMQP_URI RABBITMQ_URL RABBITMQ_NODENAME DATABASE_NAME SERVICE_HOST SERVICE_PORT DEVICE_NAME HTTP_PATH QUEUE_NAME ' +
    'QUEUE_SIZE QUEUE_TIME EXCHANGE_NAME STREAM_PORT PROCESS PROCESSOR_ARCHITECTURE NUMBER_OF_PROCESSORS ' +
    'PROCESSOR_IDENTIFIER PROCESSOR_LEVEL PROCESSOR_REVISION TOPOLOGY_MODE KUBERNETES_SERVICE_HOST SHARD STORE MAX_BYTES';
  assert.deepEqual(problemsOf(Object.fromEntries(strangers.split(' ').map((name) => [name, 'x']))), []);
});

test('every default is an allowed value of its variable', () => {
  for (const line of renderEnvExample().split('\n')) {
    const [, name, value] = /^#([A-Z_]+)=(.*)$/.exec(line) ?? [];
    if (name !== undefined && value) assert.deepEqual(loadConfig({ [name]: value }), loadConfig({}), line);
  }
});

test('.env.example is what the table renders', () => {
  assert.equal(readFileSync(`${checkout}.env.example`, 'utf8'), renderEnvExample());
});

test('table, help and example have every variable once', () => {
  for (const name of variableNames) {
    assert.equal(renderVariablesTable().split(`| \`${name}\` |`).length, 2, name);
    assert.equal(renderVariablesHelp().split(new RegExp(`^  ${name} `, 'm')).length, 2, name);
    assert.equal(renderEnvExample().split(new RegExp(`^#${name}=`, 'm')).length, 2, name);
  }
});

test('a stream that counts from 0 is taken as one, and refused where the event store, which counts from 1, repairs its gaps', () => {
  const { ordering, limits } = loadConfig({ FIRST_SEQUENCE: '0', GAP_REPAIR: './missing.js' });
  assert.deepEqual([ordering.firstSequence, limits.firstSequence, loadConfig({ FIRST_SEQUENCE: 'any' }).limits.firstSequence], [0, 0, 1]);
  assert.match(
    problemOf({ FIRST_SEQUENCE: '0', GAP_REPAIR: 'event-store' }),
    /^GAP_REPAIR is `event-store` and FIRST_SEQUENCE is 0: the event store counts from 1; set FIRST_SEQUENCE=1/,
  );
});
