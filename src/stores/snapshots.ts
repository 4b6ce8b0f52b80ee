/** Reads the snapshots of many entities in batches. */
import { UnavailableError } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import type { Snapshot } from '../ordering/entity.ts';
import type { Store } from './store.ts';

const batchSize = 500;

/** @throws UnavailableError when any of them cannot be read. */
export async function snapshotsOf(store: Pick<Store, 'load'>, entities: readonly EntityRef[]): Promise<readonly Snapshot[]> {
  const snapshots: Snapshot[] = [];
  for (let at = 0; at < entities.length; at += batchSize) {
    for (const result of await store.load(entities.slice(at, at + batchSize))) {
      if (result.status === 'failed') throw new UnavailableError(result.error.message, { cause: result.error });
      snapshots.push(result.snapshot);
    }
  }
  return snapshots;
}
