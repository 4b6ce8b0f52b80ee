/**
 * A PROCESSOR for tests that keeps the types of an entity's events as `history` does, and gives each event to something slow: a database,
 * say, to which the process has four connections, and which takes five milliseconds for an event.
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
