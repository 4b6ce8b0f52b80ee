/**
 * A PROCESSOR for tests that keeps the types of an entity's events as `history` does. Its handler of entities `other-…` is
 * busy, or with WHILE_SHUT=unavailable says that what it calls is away, until the file GATE exists.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { defineAggregate, defineHandler, UnavailableError } from '../../src/index.ts';

const isShut = () => !existsSync(process.env['GATE'] ?? '');

export default [
  defineAggregate({
    type: 'trace',
    initialState: { types: [] as readonly string[] },
    evolve: { '*': ({ types }, { type }) => ({ types: [...types, type] }) },
  }),
  defineHandler({
    type: 'trace',
    async handle({ entityId }, { signal }) {
      if (!entityId.startsWith('other-')) return;
      if (process.env['WHILE_SHUT'] === 'unavailable' && isShut()) throw new UnavailableError('the other side is away');
      while (isShut()) await sleep(100, undefined, { signal });
    },
  }),
];
