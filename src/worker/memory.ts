/**
 * How a worker's memory budget is divided: unsettled deliveries, the states of entities, and what is remembered of idle
 * entities. The budget covers everything that grows with traffic, not the base size of the process.
 */
import { heldShare } from '../config/config.ts';
import type { SequencerLimits } from '../ordering/limits.ts';
import { DeliveryMemory } from './intake.ts';
import { StateMemory } from './state-cache.ts';

export interface WorkerMemory {
  readonly deliveries: DeliveryMemory;
  readonly states: StateMemory;
  /** Limit on the states that one shard reads or writes at a time, in bytes, all copies counted. */
  readonly maxStateWorkBytes: number;
  readonly limits: Pick<SequencerLimits, 'maxRememberedBytes' | 'maxHeldBytes'>;
}

const shares = { deliveries: 0.6, cachedStates: 0.16, statesInWork: 0.16, remembered: 0.08 };

export function shareOut(budgetBytes: number, shards: number): WorkerMemory {
  const forDeliveries = budgetBytes * shares.deliveries;
  return {
    deliveries: new DeliveryMemory(forDeliveries),
    states: new StateMemory(budgetBytes * shares.cachedStates),
    maxStateWorkBytes: (budgetBytes * shares.statesInWork) / shards,
    limits: {
      maxRememberedBytes: (budgetBytes * shares.remembered) / shards,
      // When all shards are busy, each gets as much as stays free.
      maxHeldBytes: (forDeliveries / (shards + 1)) * heldShare,
    },
  };
}
