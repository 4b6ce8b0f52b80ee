/**
 * A PROCESSOR for tests that keeps the types of an entity's events as `history` does. An event of an entity `poison…` does to its
 * process what POISON says, in the aggregate or with POISONS=handler in a handler, where one of an entity `slow` takes a second;
 * without POISON the defect is mended.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { defineAggregate, defineHandler } from '../../src/index.ts';

const poisons: Readonly<Record<string, () => unknown>> = {
  exit: () => process.exit(0),
  memory() {
    const hoard: unknown[] = [];
    for (;;) hoard.push(new Array(100_000).fill(hoard.length));
  },
  loop() {
    for (;;);
  },
  pause() {
    while (!existsSync(process.env['PAUSED_UNTIL'] ?? ''));
  },
  'late rejection': () => void setTimeout(() => void Promise.reject(new Error('nobody waits for this')), 200),
  rejection: () => void Promise.reject(new Error('nobody waits for this')),
};

const poison = poisons[process.env['POISON'] ?? ''] ?? (() => undefined);
const where = process.env['POISONS'] === 'handler' ? 'handler' : 'aggregate';
const take = (entityId: string, here: typeof where) => (here === where && entityId.startsWith('poison') ? poison() : undefined);

const aggregate = defineAggregate({
  type: 'trace',
  initialState: { types: [] as readonly string[] },
  evolve: {
    '*': ({ types }, { type, entityId }) => {
      take(entityId, 'aggregate');
      return { types: [...types, type] };
    },
  },
});

export default where === 'aggregate'
  ? aggregate
  : [
      aggregate,
      defineHandler({ type: 'trace', handle: ({ entityId }) => (entityId === 'slow' ? sleep(1_000) : take(entityId, 'handler')) }),
    ];
