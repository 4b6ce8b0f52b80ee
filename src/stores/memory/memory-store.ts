/**
 * The store's semantics in memory, exact and deterministic: for tests, and as the model in simulations. Every call
 * takes effect at once, in the order of the calls; time comes from `now` alone, there is neither timer nor chance.
 * Nothing survives the process, and no call ever fails: who wants faults wraps it.
 */
import type { EntityRef } from '../../events/event.ts';
import type { Finding } from '../../finding.ts';
import { awaitedSequence } from '../dead-letter-limits.ts';
import { type AuditRecord, maxAuditRecords, type OperatorStore } from '../operator-store.ts';
import type {
  Claim, ClaimResult, Commit, CommitResult, DeadLetterHistory, DeadLetterQuery, DeadLetterRecord, EntitySummary, IdConflict, LoadResult, Park,
  Parked, ParkResult, RecallQuery, RecallResult, Snapshot, Store, StoreOptions,
} from '../store.ts';
import { MemoryDeadLetters } from './memory-dead-letters.ts';

export interface MemoryStoreOptions extends StoreOptions {
  /** Milliseconds since 1970; never goes back. */
  readonly now: () => number;
}

interface SequenceRecord {
  readonly payloadHash: string;
  readonly result: string | null;
  readonly expiresAtMs: number;
}

interface IdRecord {
  readonly sequence: number;
  readonly payloadHash: string;
  readonly expiresAtMs: number;
}

interface Entity extends EntityRef {
  /** Null until the first commit. */
  version: number | null;
  holes: string;
  state: string | null;
  parked: Omit<Parked, 'replaying'> | null;
  /** The highest sequence among its dead letters, while it is parked. */
  awaited: number;
  replayUntilMs: number;
  token: string | null;
  readonly epochs: Map<number, number>;
  /** The oldest first, for all of them are kept for the same time. */
  readonly bySequence: Map<number, SequenceRecord>;
  readonly byId: Map<string, IdRecord>;
}

export function createMemoryStore(options: MemoryStoreOptions): Store {
  return new MemoryStore(options);
}

class MemoryStore implements Store {
  readonly #now: () => number;
  readonly #idTtlMs: number;
  readonly #entities = new Map<string, Entity>();
  readonly #deadLetters: MemoryDeadLetters;
  #epoch = 0;
  readonly #audit: AuditRecord[] = [];
  readonly operator: OperatorStore = {
    beginReplay: async (entities, leaseMs) => entities.map((ref) => this.#beginReplay(ref, leaseMs)),
    noteReplays: async (messages) => messages.forEach((message) => this.#deadLetters.noteReplay(message)),
    appendAudit: async (entries) => {
      for (const entry of entries) this.#audit.push({ at: new Date(this.#now()).toISOString(), ...entry });
      this.#audit.splice(0, this.#audit.length - maxAuditRecords);
    },
    readAudit: async function* (this: MemoryStore) {
      yield* this.#audit.toReversed();
    }.bind(this),
  };

  constructor(options: MemoryStoreOptions) {
    this.#now = options.now;
    this.#deadLetters = new MemoryDeadLetters(options.now);
    this.#idTtlMs = Math.ceil(options.idempotencyTtlSeconds * 1000);
  }

  async load(entities: readonly EntityRef[]): Promise<readonly LoadResult[]> {
    return entities.map((ref) => ({ status: 'ok', snapshot: this.#snapshotOf(this.#entities.get(nameOf(ref))) }));
  }

  async commit(commits: readonly Commit[]): Promise<readonly CommitResult[]> {
    return commits.map((commit) => this.#commit(commit));
  }

  async claim(claims: readonly Claim[]): Promise<readonly ClaimResult[]> {
    return claims.map((claim) => {
      if (this.#isFenced(claim)) return { status: 'fenced' };
      const entity = this.#entity(claim);
      entity.epochs.set(claim.shard, claim.epoch);
      return { status: 'ok', snapshot: this.#snapshotOf(entity) };
    });
  }

  async park(parks: readonly Park[]): Promise<readonly ParkResult[]> {
    return parks.map((park) => this.#park(park));
  }

  async recall(queries: readonly RecallQuery[]): Promise<readonly RecallResult[]> {
    return queries.map((query) => this.#recall(query));
  }

  async recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void> {
    for (const record of records) {
      this.#awaits(record);
      this.#deadLetters.record(record);
    }
  }

  async findDeadLetters(queries: readonly DeadLetterQuery[]): Promise<readonly (DeadLetterHistory | null)[]> {
    return queries.map((query) => this.#deadLetters.find(query));
  }

  async nextEpoch(): Promise<number> {
    return ++this.#epoch;
  }

  async currentEpoch(): Promise<number> {
    return this.#epoch;
  }

  async *listEntities(filter: { readonly entityType?: string }): AsyncGenerator<EntitySummary> {
    for (const entity of [...this.#entities.values()]) {
      const { entityType, entityId, version } = entity;
      if (filter.entityType !== undefined && filter.entityType !== entityType) continue;
      const parked = this.#parkedOf(entity);
      if (version !== null || parked !== null) yield { entityType, entityId, version: version ?? 0, parked };
    }
  }

  async inspect(): Promise<readonly Finding[]> {
    const detail = 'It is in memory and ends with the process.';
    return [{ level: 'warning', subject: 'store', detail, remedy: 'Use Redis for anything that is to be kept.' }];
  }

  async ping(): Promise<void> {}

  async close(): Promise<void> {}

  #commit(commit: Commit): CommitResult {
    const known = this.#entities.get(nameOf(commit));
    if (known?.token === commit.token) return { status: 'duplicate', parked: this.#parkedOf(known) };
    if ((known?.version ?? 0) !== commit.expectedVersion || (known?.holes ?? '') !== commit.expectedHoles) {
      return { status: 'stale', snapshot: this.#snapshotOf(known) };
    }
    const conflicts = this.#conflicts(known, commit);
    if (conflicts.length > 0) return { status: 'conflict', conflicts };
    const entity = this.#entity(commit);
    entity.version = commit.newVersion;
    entity.holes = commit.newHoles;
    entity.token = commit.token;
    if (commit.state !== null) entity.state = commit.state;
    this.#remember(entity, commit);
    if (entity.awaited <= commit.newVersion) endParking(entity);
    return { status: 'ok', parked: this.#parkedOf(entity) };
  }

  #conflicts(entity: Entity | undefined, commit: Commit): readonly IdConflict[] {
    const conflicts: IdConflict[] = [];
    const firstUse = new Map<string, IdRecord>();
    for (const [index, { id, recordId, consumed, sequence, payloadHash }] of commit.events.entries()) {
      if (!recordId || consumed) continue;
      const recorded = this.#unexpired(entity?.byId.get(id));
      const other = recorded !== undefined && recorded.sequence !== sequence ? recorded : firstUse.get(id);
      if (other === undefined) firstUse.set(id, { sequence, payloadHash, expiresAtMs: Infinity });
      else conflicts.push({ index, recordedSequence: other.sequence, samePayload: other.payloadHash === payloadHash });
    }
    return conflicts;
  }

  #remember(entity: Entity, commit: Commit): void {
    const expiresAtMs = this.#now() + this.#idTtlMs;
    for (const { id, recordId, consumed, sequence, payloadHash, result } of commit.events) {
      putLast(entity.bySequence, sequence, { payloadHash, result, expiresAtMs });
      if (recordId && !consumed) putLast(entity.byId, id, { sequence, payloadHash, expiresAtMs });
    }
    dropExpired(entity.bySequence, this.#now());
    dropExpired(entity.byId, this.#now());
  }

  #park(park: Park): ParkResult {
    if (this.#isFenced(park)) return { status: 'fenced' };
    const known = this.#entities.get(nameOf(park));
    if ((known?.version ?? 0) !== park.expectedVersion) return { status: 'stale', snapshot: this.#snapshotOf(known) };
    const entity = this.#entity(park);
    const { reason, detail, sequence } = park;
    if (entity.parked === null || entity.replayUntilMs > 0) {
      entity.parked = { reason, detail, sequence, at: new Date(this.#now()).toISOString() };
    }
    entity.replayUntilMs = 0;
    entity.awaited = Math.max(entity.awaited, sequence);
    entity.epochs.set(park.shard, park.epoch);
    return { status: 'ok', parked: { ...entity.parked, replaying: false } };
  }

  #beginReplay(ref: EntityRef, leaseMs: number): LoadResult {
    const entity = this.#entities.get(nameOf(ref));
    if (entity?.parked != null) entity.replayUntilMs = this.#now() + leaseMs;
    return { status: 'ok', snapshot: this.#snapshotOf(entity) };
  }

  #recall(query: RecallQuery): RecallResult {
    const entity = this.#entities.get(nameOf(query));
    if (query.sequence !== null && query.sequence > (entity?.version ?? 0)) return { status: 'above' };
    const byId = query.sequence === null ? this.#unexpired(entity?.byId.get(query.id)) : undefined;
    const sequence = query.sequence ?? byId?.sequence ?? 0;
    const bySequence = this.#unexpired(entity?.bySequence.get(sequence));
    const payloadHash = query.sequence === null ? byId?.payloadHash : bySequence?.payloadHash;
    if (payloadHash === undefined) return { status: 'unknown' };
    // The result is with the sequence, unless that was used again since.
    return { status: 'known', sequence, payloadHash, result: bySequence?.payloadHash === payloadHash ? bySequence.result : null };
  }

  /** A parked entity stays so until it has passed this one. */
  #awaits(record: DeadLetterRecord): void {
    const { entityType, entityId } = record;
    const entity = entityType === null || entityId === null ? undefined : this.#entities.get(nameOf({ entityType, entityId }));
    const sequence = awaitedSequence(record) ?? 0;
    if (entity?.parked != null && sequence > (entity.version ?? 0)) entity.awaited = Math.max(entity.awaited, sequence);
  }

  #isFenced(owner: Claim | Park): boolean {
    return (this.#entities.get(nameOf(owner))?.epochs.get(owner.shard) ?? 0) > owner.epoch;
  }

  #entity(ref: EntityRef): Entity {
    const name = nameOf(ref);
    const known = this.#entities.get(name);
    if (known !== undefined) return known;
    const { entityType, entityId } = ref;
    const created: Entity = {
      entityType, entityId, version: null, holes: '', state: null, parked: null, awaited: 0, replayUntilMs: 0, token: null,
      epochs: new Map(), bySequence: new Map(), byId: new Map(),
    };
    this.#entities.set(name, created);
    return created;
  }

  #snapshotOf(entity: Entity | undefined): Snapshot {
    if (entity === undefined) return { exists: false, version: 0, state: null, holes: '', parked: null };
    const { version, state, holes } = entity;
    return { exists: version !== null, version: version ?? 0, state, holes, parked: this.#parkedOf(entity) };
  }

  #parkedOf({ parked, replayUntilMs }: Entity): Parked | null {
    return parked === null ? null : { ...parked, replaying: replayUntilMs > this.#now() };
  }

  #unexpired<T extends { readonly expiresAtMs: number }>(record: T | undefined): T | undefined {
    return record !== undefined && record.expiresAtMs > this.#now() ? record : undefined;
  }
}

function nameOf(ref: EntityRef): string {
  return JSON.stringify([ref.entityType, ref.entityId]);
}

function endParking(entity: Entity): void {
  entity.parked = null;
  entity.awaited = 0;
  entity.replayUntilMs = 0;
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
