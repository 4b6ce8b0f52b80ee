import assert from 'node:assert/strict';
import test from 'node:test';
import type { ConsumeMessage } from 'amqplib';
import { Drain } from '../../src/dead-letters/drain.ts';
import type { QueuePage } from '../../src/dead-letters/queue-reading.ts';
import type { LetterSummary } from '../../src/dead-letters/replay-plan.ts';
import { UnavailableError } from '../../src/errors.ts';

const letter = (sequence: number): LetterSummary => ({
  messageId: '',
  fingerprint: `f${sequence}`,
  entityType: 'a',
  entityId: 'b',
  sequence,
  reason: 'gap_timeout',
});
const message = { content: Buffer.alloc(1) } as ConsumeMessage;

/** A reading that can be lost. */
function usePage() {
  const state = { isOpen: true, removed: 0 };
  const page: QueuePage = {
    messages: [],
    isLast: true,
    get isOpen() {
      return state.isOpen;
    },
    remove: () => {
      if (!state.isOpen) throw new UnavailableError('the reading has expired');
      state.removed++;
    },
  };
  return { page, state };
}

test('what had its turn and did not use it before the reading ended is taken by the next reading, in order', () => {
  const drain = new Drain([[letter(1), letter(2), letter(3)]]);
  const first = usePage();
  drain.meet('f2', message, first.page);
  const taken = drain.meet('f1', message, first.page);
  assert.deepEqual(
    taken.map((one) => one.letter.sequence),
    [1, 2],
  );
  taken[0]!.remove();
  drain.endReading();
  assert.equal(drain.remaining, 2);
  const next = usePage();
  assert.deepEqual(drain.meet('f3', message, next.page), []);
  assert.deepEqual(drain.meet('f1', message, next.page), [], 'it went before');
  assert.deepEqual(
    drain.meet('f2', message, next.page).map((one) => one.letter.sequence),
    [2, 3],
  );
});

test('a letter whose copy went when its reading was lost leaves the queue when it is met again, and goes no second time', () => {
  const drain = new Drain([[letter(1)]]);
  const lost = usePage();
  const [taken] = drain.meet('f1', message, lost.page);
  lost.state.isOpen = false;
  assert.equal(taken!.isOpen, false);
  taken!.remove();
  drain.endReading();
  assert.equal(drain.remaining, 1);
  const next = usePage();
  assert.deepEqual(drain.meet('f1', message, next.page), []);
  assert.deepEqual([next.state.removed, drain.remaining], [1, 0]);
});
