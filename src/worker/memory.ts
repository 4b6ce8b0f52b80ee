/**
 * How a worker's memory budget is shared out: unsettled deliveries, the states of entities, and what is remembered of
 * those at rest. Everything that grows with traffic is in it; what the process takes by itself is not.
 */
import type { SequencerLimits } from '../ordering/limits.ts';
import { DeliveryMemory } from './intake.ts';
import { StateMemory } from './state-cache.ts';

export interface WorkerMemory {
  readonly deliveries: DeliveryMemory;
  readonly states: StateMemory;
  /** States of one shard that are read or written at a time, in bytes of everything that is made of them on the way. */
  readonly maxStateWorkBytes: number;
  readonly limits: Pick<SequencerLimits, 'maxRememberedBytes' | 'maxHeldBytes'>;
}

const shares = { deliveries: 0.6, cachedStates: 0.16, statesInWork: 0.16, remembered: 0.08 };

/** Of its part of the memory for deliveries, as of the prefetch: the rest is room for the event that is missing. */
const heldShare = 0.8;

export function shareOut(budgetBytes: number, shards: number): WorkerMemory {
  const forDeliveries = budgetBytes * shares.deliveries;
  return {
    deliveries: new DeliveryMemory(forDeliveries),
    states: new StateMemory(budgetBytes * shares.cachedStates),
    maxStateWorkBytes: (budgetBytes * shares.statesInWork) / shards,
    limits: {
      maxRememberedBytes: (budgetBytes * shares.remembered) / shards,
      // Where all shards are busy each gets as much as stays free.
      maxHeldBytes: (forDeliveries / (shards + 1)) * heldShare,
    },
  };
}
