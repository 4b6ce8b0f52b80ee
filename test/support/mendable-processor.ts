/**
 * A PROCESSOR for tests that keeps the types of an entity's events as `history` does, and fails for those that FAILS
 * names (`a/3,b/2`: entity and sequence) until a worker is started without it: the defect is mended.
 */
import { defineAggregate, PermanentError } from '../../src/index.ts';

const failing = new Set(process.env['FAILS']?.split(','));

export default defineAggregate({
  type: '*',
  initialState: { types: [] as readonly string[] },
  evolve: {
    '*': ({ types }, { entityId, sequence, type }) => {
      if (failing.has(`${entityId}/${sequence}`)) throw new PermanentError(`the ledger of ${entityId} is closed`);
      return { types: [...types, type] };
    },
  },
});
