/** What recovery commits, and what it leaves to others. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { defineHandler } from '../../src/aggregates/define.ts';
import { historyAggregate } from '../../src/aggregates/built-in.ts';
import { createProcessors } from '../../src/aggregates/processors.ts';
import type { Event } from '../../src/events/event.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import { systemTime } from '../../src/time.ts';
import { type Behind, recoverEntity, type Remedy } from '../../src/worker/recovery.ts';
import { eventOf } from '../support/event-of.ts';
import { ManualTime } from '../support/manual-time.ts';

const entity = { entityType: 'thing', entityId: 'a' };
const behind: Behind = { ...entity, version: 0, target: 3, problem: null };

function setUp(withHandlers: boolean, sequences = [1, 2, 3]) {
  const store = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 60, time: new ManualTime(1_000) });
  let handled = 0;
  const published: (number | null)[] = [];
  const processors = createProcessors([
    historyAggregate(),
    ...(withHandlers ? [defineHandler({ type: '*', handle: () => void handled++ })] : []),
  ]);
  const publish = async (event: Event) => void published.push(event.sequence);
  const read = async function* (from: number, to: number) {
    for (const sequence of sequences) if (sequence >= from && sequence <= to) yield eventOf({ id: `i${sequence}`, ...entity, sequence });
  };
  const recovery = { store, processors, maxStateBytes: 10_000, eventLog: true, publish, time: systemTime };
  const version = async () => {
    const [loaded] = await store.load([entity]);
    return loaded?.status === 'ok' ? loaded.snapshot.version : null;
  };
  const recover = (mayBeUnprocessed: boolean) =>
    recoverEntity(behind, { kind: 'events', read, mayBeUnprocessed } satisfies Remedy, recovery);
  return { store, published, recover, version, handled: () => handled };
}

test('what may never have been processed is published where there are handlers, and not passed by them', async () => {
  const { recover, version, published, handled } = setUp(true);
  assert.deepEqual([await recover(true), published, await version(), handled()], [{ status: 'published' }, [1, 2, 3], 0, 0]);
});

test('what was applied is committed without its handlers, and what comes again is a duplicate', async () => {
  const { store, recover, version, published, handled } = setUp(true);
  assert.deepEqual([await recover(false), published, await version(), handled()], [{ status: 'recovered' }, [], 3, 0]);
  const known = await store.lookUp([{ ...entity, sequence: 2, id: 'i2' }]);
  assert.equal(known[0]?.status === 'known' && known[0].payloadHash, eventOf({ id: 'i2', ...entity, sequence: 2 }).payloadHash);
  assert.deepEqual(await recover(false), { status: 'recovered' }, 'done is done');
});

test('a source with a gap brings an entity no further than to the gap, and says what is missing', async () => {
  const { recover, version } = setUp(false, [1, 3]);
  assert.deepEqual(await recover(false), { status: 'failed', problem: 'event 2 is missing in the source: there comes 3' });
  assert.equal(await version(), 0);
});
