/** A message that is refused for its form, and what follows it: it is found for its entity, and nobody says that it was never seen. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { keptIo, runHere } from '../support/command-io.ts';
import { adminToken, ConsoleClient } from '../support/console-client.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';

test('a letter that could not be read is listed for its entity, and nothing says "never seen" of what it may be', async (t) => {
  const run = new StreamRun(t, 'unread', { ...(await useServices(t)), variables: { GAP_TIMEOUT_MS: '500', ADMIN_TOKEN: adminToken } });
  const client = new ConsoleClient((await run.worker()).httpUrl);
  const env = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, ENTITY_TYPE: 'trace' };
  const command = async (...words: readonly string[]) => {
    const { io, out } = keptIo({ env });
    return { code: await runHere(words, io), ...out };
  };
  const channel = await run.channel();
  const send = (
    entityId: string,
    sequence: number,
    options: object,
    text = JSON.stringify({ entity_type: 'trace', entity_id: entityId, sequence, type: `e${sequence}` }),
  ) => channel.publish(run.stream, entityId, Buffer.from(text), { contentType: 'application/json', persistent: true, ...options });
  // The sequence of the first can be read, that of the second cannot.
  send('M-1', 1, { contentType: 'text/plain', messageId: 'm-1' });
  send('M-2', 1, { messageId: 'm-2', type: 'e1' }, '{"sequence":');
  for (const entityId of ['M-1', 'M-2']) for (const sequence of [2, 3]) send(entityId, sequence, {});
  await channel.waitForConfirms();
  const { letters } = await client.letters(6);

  const list = async (entityId: string) =>
    (await command('dead-letters', 'list', '--entity', entityId, '--json')).stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  const fields = ({ message_id, entity_type, entity_id, sequence, type, reason }: Record<string, unknown>) => [
    message_id,
    entity_type,
    entity_id,
    sequence,
    type,
    reason,
  ];
  const [first] = await list('M-1');
  assert.deepEqual(fields(first), ['m-1', 'trace', 'M-1', 1, 'e1', 'malformed']);
  const [unread, second] = await list('M-2');
  assert.deepEqual(fields(unread), ['m-2', null, 'M-2', null, 'e1', 'malformed']);
  assert.deepEqual((await list('M-2')).length, 3);

  const shown = [
    (await command('dead-letters', 'show', second.message_id)).stdout,
    (await command('dead-letters', 'replay', '--entity', 'M-2', '--entity-type', 'trace')).stdout,
    (await command('entity', 'show', 'M-1')).stdout,
    (await command('entity', 'show', 'M-2')).stdout,
  ];
  assert.match(shown[0]!, /^status +waits for 1, which may be the letter m-2 \(malformed\), whose sequence cannot be read; here are 2-3$/m);
  assert.match(shown[1]!, /2-3 wait for 1: 1 may be the letter m-2 \(malformed\), whose sequence cannot be read/);
  assert.match(shown[1]!, /^  M-2: m-2 not replayable \(malformed\): it would be refused again/m, 'all of the entity are looked at');
  for (const text of shown.slice(2)) assert.match(text, /^version +0\nparked +since .* gap_timeout \(waited \d+ ms for sequence 1\)$/m);
  const follower = (await list('M-1')).find(({ sequence }) => sequence === 2);
  assert.match(
    (await command('dead-letters', 'show', follower.message_id)).stdout,
    /^status +follows 1, which is itself a dead letter and cannot be applied as it is \(malformed\): export it, correct it, publish it; then replay$/m,
  );

  const answers = await Promise.all(
    [
      ...letters.map(({ fingerprint }: { fingerprint: string }) => `letters/${fingerprint}`),
      'entity?type=trace&id=M-1',
      'entity?type=trace&id=M-2',
    ].map((path) => client.api(path)),
  );
  const [one, two] = answers.slice(-2);
  assert.deepEqual(
    one.runs.map(({ state, from, reason }: any) => [state, from, reason]),
    [
      ['dead-lettered', 1, 'malformed'],
      ['dead-lettered', 2, 'gap_timeout'],
      ['dead-lettered', 3, 'gap_timeout'],
    ],
  );
  assert.deepEqual([two.unread, two.dead_letters, two.passed.map(({ message_id }: any) => message_id)], [1, 3, ['m-2']]);
  for (const text of [...shown, ...answers.map((answer) => JSON.stringify(answer))])
    assert.doesNotMatch(text, /never seen|has not arrived/);

  send('M-2', 1, {});
  await channel.waitForConfirms();
  await waitFor(async () => /^version +1$/m.test((await command('entity', 'show', 'M-2')).stdout), {
    what: 'the missing event',
    timeoutMs: 60_000,
  });
  const { stdout } = await command('dead-letters', 'replay', '--entity', 'M-2', '--entity-type', 'trace', '--yes', '--json');
  const outcome = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .find(({ status }) => status !== undefined);
  assert.deepEqual([outcome.status, outcome.version, outcome.left_in_queue], ['passed', 3, 1], 'nobody knows that it is recovered');
});
