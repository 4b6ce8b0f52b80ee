/**
 * Finds entities whose missing event has arrived: parked, not being replayed, and the next of their sequence lies among
 * the dead letters for no fault of its own. Reads the queue once; memory is bounded by a page and by what is found.
 */
import type { EntityRef } from '../events/event.ts';
import type { Store } from '../stores/store.ts';
import type { DeadLetter, DeadLetterReason } from './dead-letter.ts';
import { entityName } from './entity-letters.ts';
import { snapshotsOf } from './entity-snapshots.ts';
import { type InspectOptions, listDeadLetters } from './inspect.ts';

/**
 * What died of its predecessor, and may live when that is there; what failed by itself would fail again, and is for an
 * operator. `unknown` is among them: where so much was dead-lettered that the records ran out, it is mostly this.
 */
export const waitingReasons: ReadonlySet<DeadLetterReason> = new Set(['gap_timeout', 'buffer_overflow', 'entity_parked', 'out_of_order', 'unknown']);

export interface ReadyOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load'>;
  /** Only letters from these shards. */
  readonly shards: ReadonlySet<number>;
  /** The reading ends when so many entities are found. */
  readonly maxEntities: number;
}

type OrderedLetter = DeadLetter & EntityRef & { readonly sequence: number };

export interface ReadyEntities {
  readonly entities: readonly EntityRef[];
  /** False when there may be more of them. */
  readonly complete: boolean;
}

/** @throws UnavailableError when broker or store go away. */
export async function findReadyEntities(options: ReadyOptions): Promise<ReadyEntities> {
  const { shards, store, maxEntities, signal } = options;
  const found = new Map<string, EntityRef>();
  for await (const letters of listDeadLetters(options)) {
    const waiting = letters.filter((letter): letter is OrderedLetter => isWaiting(letter) && letter.shard !== null && shards.has(letter.shard));
    const snapshots = await snapshotsOf(store, waiting);
    for (const [index, { entityType, entityId, sequence }] of waiting.entries()) {
      const { version, parked } = snapshots[index]!;
      if (parked === null || parked.replaying || sequence !== version + 1) continue;
      found.set(entityName({ entityType, entityId }), { entityType, entityId });
    }
    if (found.size >= maxEntities) return { entities: [...found.values()], complete: false };
  }
  return { entities: [...found.values()], complete: signal?.aborted !== true };
}

/** Whether it has a place in the sequence of an entity, and died of what came before it there. */
export function isWaiting(letter: DeadLetter): letter is OrderedLetter {
  return letter.entityType !== null && letter.entityId !== null && letter.sequence !== null && waitingReasons.has(letter.reason);
}
