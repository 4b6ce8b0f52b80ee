/**
 * The store's semantics in memory, exact and deterministic: for tests, and as the model in simulations. Every call
 * takes effect at once, in the order of the calls, without timers. Nothing survives the process, and no call fails: tests wrap
 * it to inject faults.
 */
import type { EntityRef } from '../../events/event.ts';
import { entityKey } from '../../events/identity.ts';
import type { Finding } from '../../finding.ts';
import {
  awaitDeadLetter,
  beginReplay,
  decideClaim,
  decideCommit,
  decidePark,
  type IdRecord,
  parkedOf,
  snapshotOf,
  type StoredEntity,
  unknownEntity,
  versionOf,
  deadLetterTtlMs,
  keptRecord,
  maxDeadLettersPerEntity,
  maxRememberedReplays,
} from '../../ordering/entity-rules.ts';
import { isoNow, systemTime, type Time } from '../../time.ts';
import { isSameLayout, layoutFrom, layoutText, type StreamLayout, type StreamShape } from '../layout.ts';
import {
  type AuditRecord,
  type EntityReplaying,
  maxAuditRecords,
  type OperatorStore,
  type DeadLetterQuery,
  type EntitySummary,
  type EpochResult,
  type Halt,
  type LoadResult,
  type StreamState,
  type Store,
  type StoreOptions,
  type DeadLetterHistory,
} from '../store.ts';
import type {
  Claim,
  Commit,
  CommitResult,
  DeadLetterRecord,
  InitialVersion,
  Park,
  LookupQuery,
  LookupResult,
} from '../../ordering/entity.ts';

export type MemoryStoreOptions = StoreOptions;

interface Expiring {
  readonly expiresAtMs: number;
}

interface SequenceRecord extends Expiring {
  readonly payloadHash: string;
  readonly result: string | null;
}

interface Entity extends EntityRef, StoredEntity {
  /** The oldest first: all are kept for the same time. */
  readonly bySequence: Map<number, SequenceRecord>;
  readonly byId: Map<string, IdRecord & Expiring>;
  readonly log: string[];
}

export function createMemoryStore(options: MemoryStoreOptions): Store {
  return new MemoryStore(options);
}

class MemoryStore implements Store {
  readonly #time: Time;
  readonly #idTtlMs: number;
  readonly #initialVersion: InitialVersion;
  readonly #entities = new Map<string, Entity>();
  readonly #deadLetters: MemoryDeadLetters;
  #epoch = 0;
  #identity: string | null = null;
  readonly #stream: string;
  #layout: string | null = null;
  #halts: Halt[] = [];
  /** By shard, of those that have not taken their leave. */
  readonly #sessions = new Map<number, { readonly epoch: number; readonly note: string }>();
  readonly #audit: AuditRecord[] = [];
  readonly operator: OperatorStore = {
    beginReplay: async (replays, leaseMs) => replays.map((replay) => this.#beginReplay(replay, leaseMs)),
    noteReplays: async (messages) => messages.forEach((message) => this.#deadLetters.noteReplay(message)),
    resume: async (epoch) => {
      this.#halts = [];
      this.#epoch = Math.max(this.#epoch, epoch);
      await this.identify();
      return this.streamState();
    },
    changeShape: async (shape, from) => {
      const found = layoutFrom(this.#stream, this.#layout);
      if (found === null || isSameLayout(found, from)) this.#layout = layoutText(shape);
      return layoutFrom(this.#stream, this.#layout)!;
    },
    appendAudit: async (entries) => {
      for (const entry of entries) this.#audit.push({ at: isoNow(this.#time), ...entry });
      this.#audit.splice(0, this.#audit.length - maxAuditRecords);
    },
    readAudit: async function* (this: MemoryStore) {
      yield* this.#audit.toReversed();
    }.bind(this),
  };

  constructor(options: MemoryStoreOptions) {
    this.#time = options.time ?? systemTime;
    this.#stream = options.stream;
    this.#deadLetters = new MemoryDeadLetters(this.#time);
    this.#idTtlMs = Math.ceil(options.idempotencyTtlSeconds * 1000);
    this.#initialVersion = options.initialVersion ?? 0;
  }

  async load(entities: readonly EntityRef[]): Promise<readonly LoadResult[]> {
    return entities.map((ref) => ({
      status: 'ok',
      snapshot: snapshotOf(this.#entities.get(entityKey(ref)) ?? unknownEntity(this.#initialVersion), this.#time.wallMs()),
    }));
  }

  async commit(commits: readonly Commit[]) {
    return commits.map((commit) => this.#commit(commit));
  }

  async claim(claims: readonly Claim[]) {
    return claims.map((claim) => decideClaim(this.#entity(claim), claim, this.#time.wallMs()));
  }

  async park(parks: readonly Park[]) {
    return parks.map((park) => decidePark(this.#entity(park), park, this.#time.wallMs()));
  }

  async lookUp(queries: readonly LookupQuery[]) {
    return queries.map((query) => this.#lookUp(query));
  }

  async *readLog(entity: EntityRef): AsyncGenerator<string> {
    yield* [...(this.#entities.get(entityKey(entity))?.log ?? [])];
  }

  async recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void> {
    for (const record of records) {
      this.#awaits(record);
      this.#deadLetters.record(record);
    }
  }

  async findDeadLetters(queries: readonly DeadLetterQuery[]) {
    return queries.map((query) => this.#deadLetters.find(query));
  }

  async nextEpoch(shard: number): Promise<EpochResult> {
    const haltOf = (which: number | null) => this.#halts.find((one) => one.shard === which);
    const halt = haltOf(null) ?? haltOf(shard);
    if (halt !== undefined) return { status: 'halted', halt };
    const unfinished = this.#sessions.get(shard)?.note ?? null;
    const epoch = ++this.#epoch;
    this.#sessions.set(shard, { epoch, note: unfinished ?? '' });
    return { status: 'ok', epoch, identity: this.#identity, unfinished };
  }

  async noteSession(shard: number, epoch: number, note: string | null): Promise<void> {
    if (this.#sessions.get(shard)?.epoch !== epoch) return;
    if (note === null) this.#sessions.delete(shard);
    else this.#sessions.set(shard, { epoch, note });
  }

  async streamState(): Promise<StreamState> {
    return { identity: this.#identity, epoch: this.#epoch, halts: [...this.#halts], layout: layoutFrom(this.#stream, this.#layout) };
  }

  async identify(): Promise<string> {
    this.#identity ??= this.#time.uuid();
    return this.#identity;
  }

  async recordLayout(shape: StreamShape): Promise<StreamLayout> {
    this.#layout ??= layoutText(shape);
    return layoutFrom(this.#stream, this.#layout)!;
  }

  async halt(halt: Halt): Promise<void> {
    if (!this.#halts.some(({ shard }) => shard === halt.shard)) this.#halts.push(halt);
  }

  async *listEntities(filter: { readonly entityType?: string }): AsyncGenerator<EntitySummary> {
    for (const entity of [...this.#entities.values()]) {
      const { entityType, entityId } = entity;
      if (filter.entityType !== undefined && filter.entityType !== entityType) continue;
      const parked = parkedOf(entity, this.#time.wallMs());
      if (entity.version !== null || parked !== null) yield { entityType, entityId, version: versionOf(entity), parked };
    }
  }

  async inspect(): Promise<readonly Finding[]> {
    const detail = 'It is in memory and ends with the process.';
    return [{ level: 'warning', subject: 'store', detail, remedy: 'Use Redis for anything that is to be kept.' }];
  }

  async ping(): Promise<void> {}

  async tryWrite(): Promise<void> {}

  async close(): Promise<void> {}

  #commit(commit: Commit): CommitResult {
    const entity = this.#entity(commit);
    const result = decideCommit(entity, commit, (id) => this.#unexpired(entity.byId.get(id)), this.#time.wallMs());
    if (result.status === 'ok') this.#remember(entity, commit);
    return result;
  }

  #remember(entity: Entity, commit: Commit): void {
    const expiresAtMs = this.#time.wallMs() + this.#idTtlMs;
    for (const { id, recordId, consumed, sequence, payloadHash, result, log } of commit.events) {
      if (log !== undefined) entity.log.push(log);
      putLast(entity.bySequence, sequence, { payloadHash, result, expiresAtMs });
      if (recordId && !consumed) putLast(entity.byId, id, { sequence, payloadHash, expiresAtMs });
    }
    dropExpired(entity.bySequence, this.#time.wallMs());
    dropExpired(entity.byId, this.#time.wallMs());
  }

  #beginReplay(replay: EntityReplaying, leaseMs: number): LoadResult {
    const entity = this.#entity(replay);
    beginReplay(entity, replay, leaseMs, this.#time.wallMs());
    return { status: 'ok', snapshot: snapshotOf(entity, this.#time.wallMs()) };
  }

  #lookUp(query: LookupQuery): LookupResult {
    const entity = this.#entities.get(entityKey(query));
    if (query.sequence !== null && query.sequence > (entity?.version ?? this.#initialVersion)) return { status: 'above' };
    const byId = query.sequence === null ? this.#unexpired(entity?.byId.get(query.id)) : undefined;
    const sequence = query.sequence ?? byId?.sequence ?? 0;
    const bySequence = this.#unexpired(entity?.bySequence.get(sequence));
    const payloadHash = query.sequence === null ? byId?.payloadHash : bySequence?.payloadHash;
    if (payloadHash === undefined) return { status: 'unknown' };
    // The result is stored with the sequence, unless that has been used again since.
    return { status: 'known', sequence, payloadHash, result: bySequence?.payloadHash === payloadHash ? bySequence.result : null };
  }

  #awaits(record: DeadLetterRecord): void {
    const { entityType, entityId } = record;
    if (entityType === null || entityId === null) return;
    const entity = this.#entities.get(entityKey({ entityType, entityId }));
    if (entity !== undefined) awaitDeadLetter(entity, record);
  }

  #entity(ref: EntityRef): Entity {
    const name = entityKey(ref);
    const known = this.#entities.get(name);
    if (known !== undefined) return known;
    const { entityType, entityId } = ref;
    const created: Entity = {
      entityType,
      entityId,
      ...unknownEntity(this.#initialVersion),
      bySequence: new Map(),
      byId: new Map(),
      log: [],
    };
    this.#entities.set(name, created);
    return created;
  }

  #unexpired<T extends { readonly expiresAtMs: number }>(record: T | undefined): T | undefined {
    return record !== undefined && record.expiresAtMs > this.#time.wallMs() ? record : undefined;
  }
}

function putLast<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key);
  map.set(key, value);
}

function dropExpired(records: Map<unknown, { readonly expiresAtMs: number }>, nowMs: number): void {
  for (const [key, { expiresAtMs }] of records) {
    if (expiresAtMs > nowMs) return;
    records.delete(key);
  }
}

/** Of dead letters, by entity: bounded and kept as long as those in Redis. */
interface Letters {
  /** By fingerprint, the latest record last. */
  readonly histories: Map<string, DeadLetterHistory>;
  expiresAtMs: number;
}

class MemoryDeadLetters {
  readonly #time: Time;
  readonly #letters = new Map<string, Letters>();

  constructor(time: Time) {
    this.#time = time;
  }

  record(record: DeadLetterRecord): void {
    const { histories } = this.#kept(record);
    const replayedAt = histories.get(record.fingerprint)?.replayedAt ?? [];
    histories.delete(record.fingerprint);
    histories.set(record.fingerprint, { record: keptRecord(record), replayedAt });
    const [oldest] = histories.keys();
    if (histories.size > maxDeadLettersPerEntity && oldest !== undefined) histories.delete(oldest);
  }

  noteReplay(message: DeadLetterQuery): void {
    const { histories } = this.#kept(message);
    const { record = null, replayedAt = [] } = histories.get(message.fingerprint) ?? {};
    const times = [isoNow(this.#time), ...replayedAt];
    histories.set(message.fingerprint, { record, replayedAt: times.slice(0, maxRememberedReplays) });
  }

  find(query: DeadLetterQuery): DeadLetterHistory | null {
    return this.#unexpired(query)?.histories.get(query.fingerprint) ?? null;
  }

  /** Renews the time for which the entity's letters are kept. */
  #kept(query: DeadLetterQuery): Letters {
    const letters = this.#unexpired(query) ?? { histories: new Map<string, DeadLetterHistory>(), expiresAtMs: 0 };
    this.#letters.set(nameOf(query), letters);
    letters.expiresAtMs = this.#time.wallMs() + deadLetterTtlMs;
    return letters;
  }

  #unexpired(query: DeadLetterQuery): Letters | undefined {
    const letters = this.#letters.get(nameOf(query));
    return letters !== undefined && letters.expiresAtMs > this.#time.wallMs() ? letters : undefined;
  }
}

function nameOf({ entityType, entityId, fingerprint }: DeadLetterQuery): string {
  return JSON.stringify(entityType === null || entityId === null ? [fingerprint] : [entityType, entityId]);
}
