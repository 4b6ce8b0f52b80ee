/**
 * A stream whose producers count from 0 (FIRST_SEQUENCE=0), on the real broker with either store: what happens to sequence 1
 * elsewhere happens to 0 here.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { keptIo, runHere } from '../support/command-io.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import type { TraceEvent } from '../support/trace.ts';

const of = (entityId: string, ...sequences: readonly number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));

async function setUp(t: TestContext, kind: 'Redis' | 'PostgreSQL', variables: Readonly<Record<string, string>> = {}) {
  const services = await useServices(t);
  const url = kind === 'PostgreSQL' ? await usePostgres() : null;
  const store = {
    FIRST_SEQUENCE: '0',
    ENTITY_TYPE: 'trace',
    ...(url === null ? {} : { STATE_STORE: 'postgres', DATABASE_URL: url }),
    ...variables,
  };
  const run = new StreamRun(t, 'zero', { ...services, ...(url === null ? {} : { storeUrl: url }), variables: store });
  const inorder = async (...words: readonly string[]) => {
    const { io, out } = keptIo({ env: { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream, ...store } });
    const code = await runHere(words, io);
    return { code, ...out };
  };
  /** Null while nothing of it is known. */
  const find = async (entityId: string) => {
    const { code, stdout } = await inorder('entity', 'show', entityId, '--json');
    return code === 0 ? JSON.parse(stdout) : null;
  };
  const show = async (entityId: string) => (await find(entityId)) ?? assert.fail(`${entityId} is not known`);
  const untilAt = (entityId: string, version: number) =>
    waitFor(async () => (await find(entityId))?.version === version, { what: `${entityId} at version ${version}` });
  return { run, inorder, show, untilAt };
}

for (const kind of ['Redis', 'PostgreSQL'] as const) {
  const options = kind === 'PostgreSQL' ? needsPostgres : {};

  test(
    `events that are numbered from 0 are applied from 0, in any order of arrival, and by the worker after a kill (${kind})`,
    options,
    async (t) => {
      const { run, show, untilAt } = await setUp(t, kind);
      const first = await run.worker();
      await run.publish([...of('in-order', 0, 1, 2, 3), ...of('swapped', 1, 0), ...of('again', 0, 0)]);
      await untilAt('in-order', 3);
      await untilAt('swapped', 1);
      await untilAt('again', 0);
      await run.publish(of('waits', 2, 1));
      await waitFor(async () => (await first.metric('inorder_held')) === 2, { what: '2 events held' });
      await run.kill(first);
      const second = await run.worker();
      await run.publish([...of('waits', 0), ...of('in-order', 0, 4), ...of('again', 1)]);
      await untilAt('waits', 2);
      await untilAt('in-order', 4);
      await untilAt('again', 1);
      const types = async (entityId: string) => (await show(entityId)).state.types;
      assert.deepEqual(
        [await types('in-order'), await types('swapped'), await types('again'), await types('waits')],
        [
          ['e0', 'e1', 'e2', 'e3', 'e4'],
          ['e0', 'e1'],
          ['e0', 'e1'],
          ['e0', 'e1', 'e2'],
        ],
      );
      assert.equal(await second.metric('inorder_events_total', { outcome: 'dead-lettered' }), 0);
      assert.equal(await run.ready(run.deadLetters), 0);
    },
  );

  test(
    `an entity whose event 0 does not come in time is parked, and recovered once 0 has come and the rest is replayed (${kind})`,
    options,
    async (t) => {
      const { run, inorder, show, untilAt } = await setUp(t, kind, { GAP_TIMEOUT_MS: '1500' });
      await run.worker();
      await run.publish(of('late', 1, 2));
      await waitFor(async () => (await run.ready(run.deadLetters)) === 2, { what: '2 dead letters' });
      const parked = await show('late');
      assert.deepEqual([parked.version, parked.parked.sequence], [-1, 1]);
      assert.match(parked.parked.detail, /^waited \d+ ms for sequence 0$/);
      const planned = await inorder('dead-letters', 'replay', '--entity', 'late');
      assert.match(planned.stdout, /0 has not arrived/);
      await run.publish(of('late', 0));
      await untilAt('late', 0);
      assert.notEqual((await show('late')).parked, null);
      const replayed = await inorder('dead-letters', 'replay', '--entity', 'late', '--yes');
      assert.equal(replayed.code, 0, replayed.stdout + replayed.stderr);
      const recovered = await show('late');
      assert.deepEqual([recovered.version, recovered.parked, recovered.state.types], [2, null, ['e0', 'e1', 'e2']]);
      assert.equal(await run.ready(run.deadLetters), 0);
    },
  );
}

test('a dead letter of sequence 0 can be replayed, or discarded with its sequence: then it leaves hole 0', async (t) => {
  const { run, inorder, show, untilAt } = await setUp(t, 'Redis', { PROCESSOR: 'order', ENTITY_TYPE: 'order' });
  await run.worker();
  const channel = await run.channel();
  const publish = async (entityId: string, sequence: number, type: string, data: object) => {
    const body = JSON.stringify({ entity_id: entityId, sequence, type, data });
    channel.publish(run.stream, entityId, Buffer.from(body), { persistent: true, contentType: 'application/json' });
    await channel.waitForConfirms();
  };
  await publish('o', 0, 'OrderPaid', {});
  await waitFor(async () => (await run.ready(run.deadLetters)) === 1, { what: 'a dead letter' });
  const { stdout } = await inorder('dead-letters', 'list', '--json');
  const letter = JSON.parse(stdout);
  assert.deepEqual([letter.sequence, (await show('o')).version, (await show('o')).parked.sequence], [0, -1, 0]);
  const replayed = await inorder('dead-letters', 'replay', '--entity', 'o', '--yes');
  assert.match(replayed.stdout, /parked again at version -1/, replayed.stderr);
  const discarded = await inorder('dead-letters', 'discard', letter.message_id, '--skip-sequence', '--yes', '--why=test');
  assert.equal(discarded.code, 0, discarded.stdout + discarded.stderr);
  await untilAt('o', 0);
  assert.match((await inorder('entity', 'show', 'o')).stdout, /^holes +0$/m);
  assert.equal((await show('o')).parked, null);
});

test('0 is refused where a stream counts from 1, and the reason names the setting', async (t) => {
  const { run, inorder } = await setUp(t, 'Redis', { FIRST_SEQUENCE: '1' });
  await run.worker();
  await run.publish(of('z', 0));
  await waitFor(async () => (await run.ready(run.deadLetters)) === 1, { what: 'a dead letter' });
  const { reason, detail } = JSON.parse((await inorder('dead-letters', 'list', '--json')).stdout);
  assert.equal(reason, 'invalid_sequence');
  assert.match(detail, /for producers that count from 0 set FIRST_SEQUENCE=0$/);
});

test('versions are imported and set from -1 up, and what takes numbers from the event store is refused', async (t) => {
  const { inorder, show } = await setUp(t, 'Redis');
  const set = await inorder('entity', 'resync', 'r', '--version=2', '--reason=test', '--yes');
  assert.equal(set.code, 0, set.stderr);
  assert.equal((await show('r')).version, 2);
  assert.equal((await inorder('entity', 'resync', 'r', '--version=-1', '--reason=test', '--yes')).code, 0);
  assert.equal((await show('r')).version, -1);
  assert.equal((await inorder('entity', 'resync', 'r', '--version=-2', '--reason=test', '--yes')).code, 2);
  for (const words of [['relay'], ['events', 'list', 'r'], ['recover', '--from=event-store']]) {
    const { code, stderr } = await inorder(...words);
    assert.equal(code, 2, words.join(' '));
    assert.match(stderr, /FIRST_SEQUENCE is 0, and the event store counts from 1/);
  }
});
