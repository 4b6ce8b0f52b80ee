/** The PROCESSOR of the demo: the built-in `order`, and a side effect that fails for the one event that is marked. */
import { defineHandler } from '../aggregates/define.ts';
import { orderAggregate } from '../aggregates/order.ts';
import { failingMark } from './faults.ts';

const notification = defineHandler({
  type: 'order',
  handle(event) {
    if (event.metadata['note'] === failingMark) throw new Error('the mail server does not know the recipient');
  },
});

/** What PROCESSOR is set to. */
export const moduleUrl = import.meta.url;

export default [orderAggregate(), notification];
