/**
 * A PROCESSOR for tests: handlers that do as the event's type says, and return what they saw. What they did is
 * counted in this process only, so an answer shows how often a handler ran.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { defineAggregate, defineHandler, PermanentError, UnavailableError } from '../../src/index.ts';

const runs = new Map<string, number>();

export default [
  defineHandler({
    type: 'job',
    async handle(event, { idempotencyKey, attempt, signal }) {
      const run = (runs.get(idempotencyKey) ?? 0) + 1;
      runs.set(idempotencyKey, run);
      switch (event.type) {
        case 'fails-twice':
          if (attempt < 3) throw new Error(`attempt ${attempt} fails`);
          break;
        case 'always-fails':
          throw new Error('this never works');
        case 'throws-at-once':
          throw new PermanentError('no use in trying again');
        case 'away-six-times':
          if (attempt <= 6) throw new UnavailableError('the other side is away');
          break;
        case 'never-settles':
          await new Promise(() => {});
          break;
        case 'slow':
          await sleep(3_000, undefined, { signal });
          break;
      }
      return { key: idempotencyKey, attempt, run, type: event.type };
    },
  }),
  defineAggregate({
    type: 'growing',
    initialState: { text: '' },
    evolve: {
      Grown: (state, event) => ({ text: state.text + (event.data as { text: string }).text }),
      Broken: () => {
        throw new Error('this evolve is broken');
      },
    },
  }),
];
