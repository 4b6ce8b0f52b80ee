/**
 * Iterates over all entities of a stream, master by master and page by page. Entities created or removed meanwhile may
 * be missed, and entities that Redis moves meanwhile may come twice. An entity with an unusable key is left out.
 */
import type { EntityRef } from '../../events/event.ts';
import type { InitialVersion } from '../../ordering/entity.ts';
import type { EntitySummary } from '../store.ts';
import type { Command, Connection } from './connection.ts';
import { isEntityFailure, unavailable } from './failures.ts';
import type { Keys } from './keys.ts';
import { readSummary, summaryFields } from './replies.ts';
import { withTimes } from './script.ts';

/** Keys that Redis scans for one page, during which it serves nobody else. */
const keysAtOnce = '1000';

export async function* scanEntities(
  connection: Connection,
  keys: Keys,
  entityType: string | undefined,
  initialVersion: InitialVersion,
): AsyncGenerator<EntitySummary> {
  for (const master of await connection.masters()) {
    let cursor = '0';
    do {
      const [next, found] = await master
        .scan(cursor, 'MATCH', keys.entityPattern(entityType), 'COUNT', keysAtOnce)
        .catch((error: Error) => Promise.reject(unavailable(connection.where, error)));
      yield* await summarise(connection, keys, found, initialVersion);
      cursor = next;
    } while (cursor !== '0');
  }
}

async function summarise(
  connection: Connection,
  keys: Keys,
  found: readonly string[],
  initialVersion: InitialVersion,
): Promise<EntitySummary[]> {
  const entities = found.map((key) => keys.parseEntity(key)).filter((entity): entity is EntityRef => entity !== null);
  const names = entities.map((entity) => keys.entity(entity));
  const replies = await withTimes(
    connection,
    names,
    await connection.send(names.map((name): Command => ['HMGET', name, ...summaryFields])),
  );
  const summaries: EntitySummary[] = [];
  for (const [index, [error, value]] of replies.entries()) {
    if (error && !isEntityFailure(error)) throw unavailable(connection.where, error);
    const entity = entities[index];
    const summary = error || entity === undefined ? null : readSummary(entity, value, initialVersion);
    if (summary !== null) summaries.push(summary);
  }
  return summaries;
}
