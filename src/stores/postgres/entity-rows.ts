/** Rows of `inorder.entities`: locked and read together, decided in memory, written back together. */
import type { EntityRef } from '../../events/event.ts';
import { type StoredEntity, unknownEntity } from '../../ordering/entity-rules.ts';
import type { InitialVersion, Parked } from '../../ordering/entity.ts';
import { type Query, clockMs, entityKey, fromBytes, toBytes, toText } from './database.ts';

/** An entity with the number of its row. */
export interface LockedEntity extends StoredEntity {
  readonly entity: number;
}

export interface LockedEntities {
  /** The server's clock, in milliseconds since 1970. */
  readonly nowMs: number;
  /** The row of an entity of the batch, without its state: the same object for the same entity. */
  readonly of: (ref: EntityRef) => LockedEntity;
  readonly all: () => Iterable<LockedEntity>;
}

interface Row {
  readonly entity: number;
  readonly key: Buffer;
  readonly version: number | null;
  readonly holes: string;
  readonly token: string | null;
  readonly parked: string | null;
  readonly awaited: number;
  readonly replay_until_ms: number;
  readonly replayed_to: number;
  readonly epochs: string;
  readonly now_ms: number;
}

const columns = `entity, key, version, holes, token, parked, awaited, replay_until_ms, replayed_to, epochs, ${clockMs} AS now_ms`;

export interface StreamOfEntities {
  readonly stream: string;
  readonly initialVersion: InitialVersion;
}

/** Locks rows in the order of their numbers and inserts them in the order of their keys, so that there is no deadlock. */
export async function lockEntities(
  query: Query,
  { stream, initialVersion }: StreamOfEntities,
  refs: readonly EntityRef[],
): Promise<LockedEntities> {
  const byKey = new Map(refs.map((ref) => [entityKey(ref).toString('hex'), ref]));
  const keys = [...byKey.keys()].sort();
  let rows = await lockRows(query, stream, keys);
  if (rows.length < keys.length) {
    await insertMissing(query, stream, keys, byKey);
    rows = await lockRows(query, stream, keys);
  }
  const locked = new Map(rows.map((row) => [row.key.toString('hex'), lockedOf(row, initialVersion)]));
  return {
    nowMs: rows[0]?.now_ms ?? 0,
    of: (ref) => locked.get(entityKey(ref).toString('hex')) as LockedEntity,
    all: () => locked.values(),
  };
}

function lockRows(query: Query, stream: string, keys: readonly string[]): Promise<readonly Row[]> {
  return query<Row>(`SELECT ${columns} FROM inorder.entities WHERE stream = $1 AND key = ANY ($2::bytea[]) ORDER BY entity FOR UPDATE`, [
    stream,
    keys.map((key) => Buffer.from(key, 'hex')),
  ]);
}

async function insertMissing(query: Query, stream: string, keys: readonly string[], byKey: ReadonlyMap<string, EntityRef>): Promise<void> {
  const refs = keys.map((key) => byKey.get(key) as EntityRef);
  await query(
    `INSERT INTO inorder.entities (stream, key, entity_type, entity_id)
     SELECT $1, * FROM unnest ($2::bytea[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING`,
    [
      stream,
      keys.map((key) => Buffer.from(key, 'hex')),
      refs.map(({ entityType }) => toText(entityType)),
      refs.map(({ entityId }) => toText(entityId)),
    ],
  );
}

function lockedOf(
  { entity, version, holes, token, parked, awaited, replay_until_ms, replayed_to, epochs }: Row,
  initialVersion: InitialVersion,
): LockedEntity {
  return {
    ...unknownEntity(initialVersion),
    entity,
    version,
    holes,
    token,
    parked: parkedFrom(parked),
    awaited,
    replayUntilMs: replay_until_ms,
    replayedTo: replayed_to,
    owners: ownersFrom(epochs),
  };
}

/** Epochs by shard, with the sessions in separate fields: a worker of an earlier version reads only the epochs. */
function ownersText(owners: StoredEntity['owners']): string {
  return JSON.stringify(
    Object.fromEntries(
      [...owners].flatMap(([shard, { epoch, session }]) => [
        [shard, epoch],
        [`session${shard}`, session],
      ]),
    ),
  );
}

function ownersFrom(json: string): StoredEntity['owners'] {
  const kept = JSON.parse(json) as Readonly<Record<string, number | string>>;
  const shards = Object.keys(kept).filter((name) => /^\d+$/.test(name));
  return new Map(shards.map((shard) => [Number(shard), { epoch: Number(kept[shard]), session: String(kept[`session${shard}`] ?? '') }]));
}

export function parkedFrom(json: string | null): Omit<Parked, 'replaying'> | null {
  return json === null ? null : (JSON.parse(json) as Omit<Parked, 'replaying'>);
}

/** A state of null keeps the stored one. */
export async function writeEntities(query: Query, entities: readonly LockedEntity[]): Promise<void> {
  if (entities.length === 0) return;
  await query(
    `UPDATE inorder.entities AS e
     SET version = u.version, holes = u.holes, state = coalesce(u.state, e.state), token = u.token, parked = u.parked,
         awaited = u.awaited, replay_until_ms = u.replay_until_ms, replayed_to = u.replayed_to, epochs = u.epochs
     FROM unnest ($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[])
       AS u (entity, version, holes, state, token, parked, awaited, replay_until_ms, replayed_to, epochs)
     WHERE e.entity = u.entity`,
    [
      entities.map(({ entity }) => entity),
      entities.map(({ version }) => version),
      entities.map(({ holes }) => holes),
      entities.map(({ state }) => toBytes(state)),
      entities.map(({ token }) => token),
      entities.map(({ parked }) => (parked === null ? null : JSON.stringify(parked))),
      entities.map(({ awaited }) => awaited),
      entities.map(({ replayUntilMs }) => replayUntilMs),
      entities.map(({ replayedTo }) => replayedTo),
      entities.map(({ owners }) => ownersText(owners)),
    ],
  );
}

/** States by row number. */
export async function readStates(query: Query, entities: readonly number[]): Promise<ReadonlyMap<number, string | null>> {
  if (entities.length === 0) return new Map();
  const rows = await query<{ entity: number; state: Buffer | null }>(
    'SELECT entity, state FROM inorder.entities WHERE entity = ANY ($1::bigint[])',
    [entities],
  );
  return new Map(rows.map(({ entity, state }) => [entity, fromBytes(state)]));
}
