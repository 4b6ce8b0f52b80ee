import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../src/errors.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { describeTarget, parseRedisUrl, type RedisTarget } from '../../src/stores/redis/redis-url.ts';

const plain = {
  kind: 'server',
  tls: null,
  username: undefined,
  password: undefined,
  db: 0,
  masterName: undefined,
  sentinelUsername: undefined,
  sentinelPassword: undefined,
} as const;

const forms: Readonly<Record<string, Partial<RedisTarget>>> = {
  'redis://localhost': { nodes: [{ host: 'localhost', port: 6379 }] },
  'redis://localhost/': { nodes: [{ host: 'localhost', port: 6379 }] },
  'redis://10.0.0.1:7000/3': { nodes: [{ host: '10.0.0.1', port: 7000 }], db: 3 },
  'redis://[::1]:7000': { nodes: [{ host: '::1', port: 7000 }] },
  'redis://:secret@host': { nodes: [{ host: 'host', port: 6379 }], password: 'secret' },
  'rediss://user:p%40ss%2C%2F@host:1/2': { nodes: [{ host: 'host', port: 1 }], tls: {}, username: 'user', password: 'p@ss,/', db: 2 },
  'redis+sentinel://a,b:26380/main': {
    kind: 'sentinel',
    nodes: [
      { host: 'a', port: 26379 },
      { host: 'b', port: 26380 },
    ],
    masterName: 'main',
  },
  'rediss+sentinel://u:p@a:1/main/4?sentinel_user=su&sentinel_password=sp': {
    kind: 'sentinel',
    nodes: [{ host: 'a', port: 1 }],
    tls: {},
    username: 'u',
    password: 'p',
    db: 4,
    masterName: 'main',
    sentinelUsername: 'su',
    sentinelPassword: 'sp',
  },
  'redis+cluster://a:1,b:2,c': {
    kind: 'cluster',
    nodes: [
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
      { host: 'c', port: 6379 },
    ],
  },
  'redis+cluster://u:p@a:1': { kind: 'cluster', nodes: [{ host: 'a', port: 1 }], username: 'u', password: 'p' },
  'redis://a:1,b:2': {
    kind: 'cluster',
    nodes: [
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
    ],
  },
  'redis://u:p@a:1,redis://u:p@b:2': {
    kind: 'cluster',
    nodes: [
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
    ],
    username: 'u',
    password: 'p',
  },
};

for (const [url, expected] of Object.entries(forms)) {
  test(`${url} is understood`, () => assert.deepEqual(parseRedisUrl(url), { ...plain, ...expected }));
}

const bad = [
  '',
  'localhost:6379',
  'http://localhost',
  'redis://',
  'redis://s3cret@',
  'redis://h:s3cret',
  'redis://h:99999',
  'redis://h/s3cret',
  'redis://h/1/s3cret',
  'redis://h/-1',
  'redis+sentinel://a',
  'redis+sentinel://a/main/x',
  'redis+cluster://a/1',
  'redis+cluster://a,,b',
  'redis://u:%zzs3cret@h',
  'redis+other://a',
  'redis://s3cret?@h',
  'redis://h?tls=true&s3cret@h',
  'redis://h?tls=s3cret',
  'rediss://h,redis://s3cret@i',
];

for (const url of bad) {
  test(`${JSON.stringify(url)} is refused, without repeating it`, () => {
    assert.throws(
      () => parseRedisUrl(url),
      (error) => error instanceof ConfigError && error.problems.length === 1 && !error.message.includes('s3cret'),
    );
  });
}

test('files for TLS are for a URL with TLS, and have to be there', () => {
  const caFile = '/nowhere/ca.pem';
  const problem = /tls\.caFile is "\/nowhere\/ca\.pem": the file cannot be read \(ENOENT\)/;
  assert.throws(() => parseRedisUrl('rediss://h', { caFile }), problem);
  assert.throws(() => createRedisStore({ url: 'rediss://h', tls: { caFile }, stream: 's', idempotencyTtlSeconds: 1 }), problem);
  assert.throws(() => parseRedisUrl('redis://h', { serverName: 'h' }), /it is without TLS, and `tls` is given: use rediss:\/\//);
  assert.deepEqual(parseRedisUrl('rediss://h', { serverName: 'h' }).tls, { serverName: 'h' });
});

test('a description says where, and never with which password', () => {
  assert.equal(describeTarget(parseRedisUrl('redis://u:s3cret@h:1/2')), 'Redis at h:1');
  assert.equal(describeTarget(parseRedisUrl('redis+cluster://u:s3cret@h:1,i:2')), 'the Redis cluster at h:1,i:2');
  assert.equal(
    describeTarget(parseRedisUrl('redis+sentinel://u:s3cret@h:1/main?sentinel_password=s3cret')),
    'the Redis master main of the sentinels at h:1',
  );
});
