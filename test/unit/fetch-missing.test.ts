import assert from 'node:assert/strict';
import test from 'node:test';
import { type LettersOfEntity, type LetterSummary, planEntity } from '../../src/dead-letters/replay-plan.ts';
import { type MissingEventsReader, withFetched } from '../../src/dead-letters/inspect.ts';
import { encodeEvent } from '../../src/events/encode.ts';
import type { Snapshot } from '../../src/ordering/entity.ts';

const entity = { entityType: 'thing', entityId: 'a' };
const letter = (sequence: number): LetterSummary => ({
  messageId: '',
  fingerprint: String(sequence),
  ...entity,
  sequence,
  reason: 'gap_timeout',
});

async function plan({ at, matched, others = [], lacks = [] }: { at: number; matched: number[]; others?: number[]; lacks?: number[] }) {
  const asked: string[] = [];
  const source: MissingEventsReader = async ({ from, to }) => {
    asked.push(`${from}-${to}`);
    const sequences = Array.from({ length: to - from + 1 }, (_, index) => from + index).filter((sequence) => !lacks.includes(sequence));
    return sequences.map((sequence) => encodeEvent({ ...entity, sequence, type: 'Happened' }));
  };
  const letters: LettersOfEntity = { entity, matched: matched.map(letter), others: others.map(letter), unread: [] };
  const snapshot: Snapshot = { exists: true, version: at, state: null, holes: '', parked: null };
  const planned = await withFetched(planEntity(letters, snapshot, 1), letters, snapshot, source, { firstSequence: 1 });
  const sequencesOf = (list: readonly { readonly sequence: number | null }[]) => list.map(({ sequence }) => sequence).join(' ');
  return {
    asked: asked.join(' '),
    goes: sequencesOf(planned.letters),
    fetched: sequencesOf(planned.fetched.map(({ event }) => event)),
    stays: sequencesOf(planned.blocked?.letters ?? []),
    missing: planned.blocked?.missing ?? null,
  };
}

test('what is missing between version and letters, and between letters, is asked for and lets them go', async () => {
  assert.deepEqual(await plan({ at: 1, matched: [4, 5, 8] }), {
    asked: '2-3 6-7',
    goes: '4 5 8',
    fetched: '2 3 6 7',
    stays: '',
    missing: null,
  });
});

test('behind what the source lacks everything stays, and nothing that would be of no use is taken', async () => {
  assert.deepEqual(await plan({ at: 1, matched: [3, 6], lacks: [5] }), {
    asked: '2-2 4-5',
    goes: '3',
    fetched: '2',
    stays: '6',
    missing: 4,
  });
});

test('what is itself a dead letter is not asked for', async () => {
  assert.deepEqual(await plan({ at: 1, matched: [3], others: [2] }), { asked: '', goes: '', fetched: '', stays: '3', missing: 2 });
  assert.deepEqual(await plan({ at: 1, matched: [5], others: [3] }), { asked: '2-2', goes: '', fetched: '', stays: '5', missing: 3 });
});

test('a long gap is asked for in parts, and one that is too long not at all', async () => {
  const { asked, goes } = await plan({ at: 0, matched: [1_101] });
  assert.deepEqual([asked, goes], ['1-500 501-1000 1001-1100', '1101']);
  assert.deepEqual(await plan({ at: 0, matched: [20_000] }), { asked: '', goes: '', fetched: '', stays: '20000', missing: 1 });
});
