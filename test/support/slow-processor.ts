/**
 * The PROCESSOR of an overload: keeps the types of an entity's events as `history` does, and waits 5 ms for each event on one of four
 * connections, as to a slow database. A process applies at most 800 events a second.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { defineAggregate, defineHandler } from '../../src/index.ts';

const connections = 4;
const eventMs = 5;

const aggregate = defineAggregate({
  type: 'trace',
  initialState: { types: [] as readonly string[] },
  evolve: { '*': ({ types }, { type }) => ({ types: [...types, type] }) },
});

let free = connections;
const waiting: (() => void)[] = [];

const handler = defineHandler({
  type: 'trace',
  handle: async () => {
    if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
    else free--;
    await sleep(eventMs);
    const next = waiting.shift();
    if (next === undefined) free++;
    else next();
  },
});

export default [aggregate, handler];
