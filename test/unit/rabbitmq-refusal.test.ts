import assert from 'node:assert/strict';
import test from 'node:test';
import { ManagementClient, virtualHostOf } from '../../src/rabbitmq/management.ts';
import { systemTime, type Time } from '../../src/time.ts';
import { blameOf, brokerWords, describeConnectFailure, notConnected } from '../../src/rabbitmq/refusal.ts';

test("the broker's words are freed of what the client library puts around them", () => {
  const closed = new Error('Channel closed by server: 404 (NOT-FOUND) with message "NOT_FOUND - no queue \'a "b"\' in vhost \'/\'"');
  assert.equal(brokerWords(closed), "no queue 'a \"b\"' in vhost '/'");
  assert.equal(brokerWords(Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })), 'ECONNREFUSED');
  assert.equal(brokerWords(new Error('cannot use amqp://u:hunter2@h')), 'cannot use amqp://***@h');
  assert.ok(brokerWords(new Error('x'.repeat(10_000))).length < 1_000);
});

test('of a permission that is missing it is told which one, and what to add to it', () => {
  const refused = (method: string, words: string) => {
    const [classId, methodId] = method.split('.').map(Number);
    const message = `Channel closed by server: 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - ${words} in vhost '/' refused for user 'u'"`;
    return brokerWords(Object.assign(new Error(message), { code: 403, classId, methodId }));
  };
  assert.equal(
    refused('60.20', "access to queue 'a-b.shard.001'"),
    String.raw`no access to queue 'a-b.shard.001' in virtual host '/': add ^a-b\.shard\.001$ to the read permission of user 'u' ` +
      '(`inorder permissions` prints what each role needs)',
  );
  const rights: readonly (readonly [method: string, words: string, right: string])[] = [
    ['40.10', "access to exchange 'x'", 'configure (where it is there: write and read)'],
    ['50.10', "access to queue 'q'", 'configure (where it is there: read)'],
    ['50.10', "access to exchange 'x'", 'write'],
    ['50.20', "access to queue 'q'", 'write'],
    ['50.20', "access to exchange 'x'", 'read'],
    ['50.40', "access to queue 'q'", 'configure'],
    ['60.40', "access to exchange 'amq.default'", 'write'],
    ['60.70', "access to queue 'q'", 'read'],
    // From 4.0 on the broker says it.
    ['40.10', "write access to exchange 'x'", 'write'],
  ];
  for (const [method, words, right] of rights)
    assert.ok(refused(method, words).includes(`to the ${right} permission of`), `${method} ${words}`);
});

test('only codes that speak of the message or the exchange lay blame on them', () => {
  const blame = (code?: number) => blameOf(Object.assign(new Error('x'), code === undefined ? {} : { code }));
  assert.deepEqual([311, 406, 501, 505].map(blame), Array(4).fill('event'));
  assert.deepEqual([403, 404].map(blame), ['exchange', 'exchange']);
  assert.deepEqual([undefined, 320, 530, 541].map(blame), Array(4).fill('nobody'));
});

test('what is said of a failed connection names host and port, and neither user nor password', () => {
  const said = describeConnectFailure(new Error('connect ECONNREFUSED 10.0.0.1:5672'), 'amqp://me:pass%40word@rabbit:5671/v');
  assert.equal(said, 'the broker at rabbit:5671 cannot be reached: connect ECONNREFUSED 10.0.0.1:5672');
  assert.equal(
    describeConnectFailure(new Error('Invalid URL'), 'amqp//me:word@x'),
    'the broker at the given address cannot be reached: Invalid URL',
  );
});

test('of several nodes that cannot be reached each is named, and what to do is said once, at the end', () => {
  const expired = Object.assign(new Error('certificate has expired'), { code: 'CERT_HAS_EXPIRED' });
  const { message, remedy } = notConnected([
    [expired, 'amqps://a'],
    [expired, 'amqps://b'],
    [new Error('connect ECONNREFUSED'), 'amqps://c'],
  ]);
  assert.equal(remedy, 'Renew it at the server.');
  assert.match(
    message,
    /^the broker at a .+; the broker at b .+; the broker at c cannot be reached: connect ECONNREFUSED\. Renew it at the server\.$/,
  );
  assert.equal(message.split('Renew').length, 2);
});

test('why the management API cannot be asked is said in bounded words without secrets, whatever was thrown', async () => {
  const thrown = [new Error(`no route to http://me:hunter2@host ${'x'.repeat(10_000)}`), 'http://me:hunter2@host', { toString: null }];
  for (const error of thrown) {
    const time: Time = {
      ...systemTime,
      after: () => {
        throw error;
      },
    };
    const answer = await new ManagementClient('http://me:hunter2@127.0.0.1:1', { urls: ['amqp://h'], auth: 'plain' }, time).overview();
    assert.ok(!answer.ok && answer.reason.startsWith('it cannot be reached (') && answer.reason.length < 1_000);
    assert.doesNotMatch(answer.reason, /hunter2/);
  }
});

test('a connection that ends in the middle of its handshake is told in one way, however it ended', () => {
  const said = ['read ECONNRESET', 'write EPIPE', 'write ECONNRESET', 'Socket closed abruptly during opening handshake'].map((text) =>
    describeConnectFailure(new Error(text), 'amqp://rabbit'),
  );
  assert.deepEqual([...new Set(said)], ['the broker at rabbit ends the connection before it is open (a port for TLS needs amqps://)']);
});

test('a URL without a path means the virtual host "/", and an encoded one is decoded', () => {
  assert.deepEqual(['amqp://h', 'amqp://h/', 'amqp://h/%2F', 'amqp://h/a%2Fb', 'amqp://h/x'].map(virtualHostOf), [
    '/',
    '/',
    '/',
    'a/b',
    'x',
  ]);
});
