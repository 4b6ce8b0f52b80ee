/**
 * One transaction for a batch of commits: it locks the rows of all entities, decides every commit by the rules that all stores
 * share, and writes the results with one statement per table, however many entities and events there are.
 */
import { decideCommit, type IdRecord } from '../../ordering/entity-rules.ts';
import type { Commit, CommitEvent, CommitResult } from '../../ordering/entity.ts';
import { type LockedEntities, type LockedEntity, lockEntities, readStates, type StreamOfEntities, writeEntities } from './entity-rows.ts';
import { type Query, digest, toBytes } from './database.ts';

interface Applied {
  readonly entity: number;
  readonly event: CommitEvent;
}

/** The known ids, by row number and id: those in the table, and those of earlier commits in the batch. */
type IdRecords = Map<string, IdRecord>;

export async function commitBatch(
  query: Query,
  stream: StreamOfEntities,
  commits: readonly Commit[],
  idTtlMs: number,
): Promise<readonly CommitResult[]> {
  const entities = await lockEntities(query, stream, commits);
  const ids = await readIds(query, commits, entities);
  const changed = new Set<LockedEntity>();
  const applied: Applied[] = [];
  const results = commits.map((commit): CommitResult => {
    const row = entities.of(commit);
    const result = decideCommit(row, commit, (id) => ids.get(idName(row.entity, id)), entities.nowMs);
    if (result.status !== 'ok') return result;
    changed.add(row);
    for (const event of commit.events) {
      applied.push({ entity: row.entity, event });
      if (remembersId(event)) ids.set(idName(row.entity, event.id), event);
    }
    return result;
  });
  await writeEntities(query, [...changed]);
  await writeApplied(query, applied, entities.nowMs + idTtlMs);
  await writeLog(query, applied);
  return withStates(query, results, commits, entities);
}

function remembersId({ recordId, consumed }: CommitEvent): boolean {
  return recordId && !consumed;
}

function idName(entity: number, id: string): string {
  return `${entity} ${id}`;
}

async function readIds(query: Query, commits: readonly Commit[], entities: LockedEntities): Promise<IdRecords> {
  const asked = commits.flatMap((commit) => {
    const { entity } = entities.of(commit);
    return commit.events.filter(remembersId).map(({ id }) => ({ entity, id }));
  });
  const records: IdRecords = new Map();
  if (asked.length === 0) return records;
  const names = new Map(asked.map(({ entity, id }) => [`${entity} ${digest(id).toString('hex')}`, idName(entity, id)]));
  const rows = await query<{ entity: number; id: Buffer; sequence: number; payload_hash: string }>(
    `SELECT entity, id, sequence, payload_hash FROM inorder.applied_ids
     JOIN unnest ($1::bigint[], $2::bytea[]) AS asked (entity, id) USING (entity, id) WHERE expires_at_ms > $3`,
    [asked.map(({ entity }) => entity), asked.map(({ id }) => digest(id)), entities.nowMs],
  );
  for (const { entity, id, sequence, payload_hash } of rows) {
    records.set(names.get(`${entity} ${id.toString('hex')}`) ?? '', { sequence, payloadHash: payload_hash });
  }
  return records;
}

async function writeApplied(query: Query, applied: readonly Applied[], expiresAtMs: number): Promise<void> {
  // A statement may not write a row twice: the last record wins.
  const bySequence = [...new Map(applied.map((one) => [`${one.entity} ${one.event.sequence}`, one])).values()];
  if (bySequence.length > 0) {
    await query(
      `INSERT INTO inorder.applied (entity, sequence, payload_hash, result, expires_at_ms)
       SELECT *, $5 FROM unnest ($1::bigint[], $2::bigint[], $3::text[], $4::bytea[])
       ON CONFLICT (entity, sequence) DO UPDATE
       SET payload_hash = excluded.payload_hash, result = excluded.result, expires_at_ms = excluded.expires_at_ms`,
      [
        bySequence.map(({ entity }) => entity),
        bySequence.map(({ event }) => event.sequence),
        bySequence.map(({ event }) => event.payloadHash),
        bySequence.map(({ event }) => toBytes(event.result)),
        expiresAtMs,
      ],
    );
  }
  const byId = [
    ...new Map(applied.filter(({ event }) => remembersId(event)).map((one) => [idName(one.entity, one.event.id), one])).values(),
  ];
  if (byId.length === 0) return;
  await query(
    `INSERT INTO inorder.applied_ids (entity, id, sequence, payload_hash, expires_at_ms)
     SELECT *, $5 FROM unnest ($1::bigint[], $2::bytea[], $3::bigint[], $4::text[])
     ON CONFLICT (entity, id) DO UPDATE
     SET sequence = excluded.sequence, payload_hash = excluded.payload_hash, expires_at_ms = excluded.expires_at_ms`,
    [
      byId.map(({ entity }) => entity),
      byId.map(({ event }) => digest(event.id)),
      byId.map(({ event }) => event.sequence),
      byId.map(({ event }) => event.payloadHash),
      expiresAtMs,
    ],
  );
}

async function writeLog(query: Query, applied: readonly Applied[]): Promise<void> {
  const logged = applied.filter(({ event }) => event.log !== undefined);
  if (logged.length === 0) return;
  await query(
    `INSERT INTO inorder.applied_events (entity, event)
     SELECT u.entity, u.event FROM unnest ($1::bigint[], $2::text[]) WITH ORDINALITY AS u (entity, event, n) ORDER BY u.n`,
    [logged.map(({ entity }) => entity), logged.map(({ event }) => event.log)],
  );
}

/** Adds the states to the stale results; the others do not need them. */
async function withStates(
  query: Query,
  results: readonly CommitResult[],
  commits: readonly Commit[],
  entities: LockedEntities,
): Promise<readonly CommitResult[]> {
  const entityAt = (index: number) => entities.of(commits[index]!).entity;
  const stale = results.flatMap(({ status }, index) => (status === 'stale' ? [entityAt(index)] : []));
  const states = await readStates(query, stale);
  return results.map((result, index) =>
    result.status === 'stale' ? { ...result, snapshot: { ...result.snapshot, state: states.get(entityAt(index)) ?? null } } : result,
  );
}
