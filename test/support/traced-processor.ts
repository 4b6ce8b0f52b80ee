/** A PROCESSOR that makes a span of its own, as the code of users does, and keeps what `history` keeps. */
import { trace } from '@opentelemetry/api';
import { defineAggregate, defineHandler } from '../../src/index.ts';

export default [
  defineAggregate({
    type: 'trace',
    initialState: { types: [] as readonly string[] },
    evolve: { '*': ({ types }, { type }) => ({ types: [...types, type] }) },
  }),
  defineHandler({
    type: 'trace',
    async handle(event, { attempt }) {
      await trace.getTracer('test').startActiveSpan(`work on ${event.type}`, async (span) => span.end());
      if (event.entityId === 'held' && event.type === 'e2' && attempt === 1) throw new Error('not at once');
    },
  }),
];
