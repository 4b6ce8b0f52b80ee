/**
 * A store in memory for the sequencer's tests: versions, ids, parking and epochs as src/README.md, section 6, says, and
 * a log of what was applied. It checks every commit itself, with plain sets and lists: a sequence is applied
 * once, after its predecessor, unless the test allows a strategy that leaps.
 */
import assert from 'node:assert/strict';
import type { EntityRef, Event } from '../../src/events/event.ts';
import { rejectionReasons, type RejectionReason } from '../../src/events/reasons.ts';
import { Holes } from '../../src/ordering/holes.ts';
import type { Parked, LookupResult, Snapshot } from '../../src/ordering/entity.ts';
import type { Effect, Fact, Rejection, Slot } from '../../src/ordering/facts.ts';

type CommitEffect = Extract<Effect, { readonly kind: 'commit' }>;
type ParkEffect = Pick<Extract<Effect, { readonly kind: 'park' }>, 'expectedVersion' | 'reason' | 'sequence'>;
type Answer = Pick<Extract<Fact, { readonly kind: 'committed' }>, 'done' | 'parked' | 'failure'>;
type Conflicts = Extract<Fact, { readonly kind: 'idConflict' }>['conflicts'];

interface Entity {
  version: number;
  holes: string;
  parked: RejectionReason | null;
  /** The sequence that it was parked for. */
  parkedAt: number;
  /** The highest sequence among its dead letters, while it is parked. */
  awaited: number;
  replaying: boolean;
  /** The highest epoch that claimed it, by shard. */
  readonly epochs: Map<number, number>;
  /** Sequences at or below the version that were passed over. */
  readonly missing: Set<number>;
  /** Payload by sequence. */
  readonly decided: Map<number, string>;
  readonly ids: Map<string, { readonly sequence: number; readonly payload: string }>;
  readonly applied: { readonly sequence: number; readonly id: string; readonly payload: string }[];
  readonly answers: Map<string, Answer>;
}

export interface ModelStoreOptions {
  /** Strategies that pass over sequences are in use. */
  readonly allowsLeaps?: boolean;
  /** The first event of an entity may have any sequence. */
  readonly allowsAdoption?: boolean;
  /** Events that no attempt can process. */
  readonly fails?: (event: Event) => boolean;
  /** Most slots that one commit carries out, as where handlers run. */
  readonly maxDone?: number;
  /** Of an entity of which nothing was committed. Default 0. */
  readonly initialVersion?: number;
}

/** Epochs are unique in the stream and grow; fencing compares those of one shard. */
export interface Owner {
  readonly shard: number;
  readonly epoch: number;
}

export class ModelStore {
  readonly #options: ModelStoreOptions;
  readonly #initialVersion: number;
  readonly #entities = new Map<string, Entity>();

  constructor(options: ModelStoreOptions = {}) {
    this.#options = options;
    this.#initialVersion = options.initialVersion ?? 0;
  }

  snapshot(ref: EntityRef): Snapshot {
    const { version, holes, parked: reason, replaying, parkedAt } = this.entity(ref);
    const parked: Parked | null = reason === null ? null : { reason, detail: '', sequence: parkedAt, at: '', replaying };
    return { exists: version > this.#initialVersion || parked !== null, version, state: null, holes, parked };
  }

  claim(ref: EntityRef, { shard, epoch }: Owner): Snapshot | null {
    const { epochs } = this.entity(ref);
    if (epoch < (epochs.get(shard) ?? 0)) return null;
    epochs.set(shard, epoch);
    return this.snapshot(ref);
  }

  park(ref: EntityRef, owner: Owner, { expectedVersion, reason, sequence }: ParkEffect): 'ok' | 'fenced' | Snapshot {
    const entity = this.entity(ref);
    if (owner.epoch < (entity.epochs.get(owner.shard) ?? 0)) return 'fenced';
    if (entity.version !== expectedVersion) return this.snapshot(ref);
    entity.epochs.set(owner.shard, owner.epoch);
    if (entity.parked === null || entity.replaying) entity.parkedAt = sequence;
    entity.parked ??= reason;
    entity.replaying = false;
    entity.awaited = Math.max(entity.awaited, sequence);
    return 'ok';
  }

  commit(effect: CommitEffect, token: string) {
    const entity = this.entity(effect.entity);
    const before = entity.answers.get(token);
    if (before !== undefined) return { kind: 'ok', answer: before } as const;
    const { slots, failure } = this.#process(effect.slots);
    // The processor failed before anything could be sent to the store.
    if (slots.length === 0) return { kind: 'ok', answer: { done: 0, parked: null, failure } } as const;
    if (entity.version !== effect.expectedVersion || entity.holes !== effect.expectedHoles) {
      return { kind: 'stale', snapshot: this.snapshot(effect.entity) } as const;
    }
    const ids = slots.filter(({ action }) => action === 'apply').map(({ delivery }) => delivery.event.id);
    assert.equal(new Set(ids).size, ids.length, `a commit carries an id twice: ${ids.join(', ')}`);
    const conflicts = conflictsOf(entity, slots);
    if (conflicts.length > 0) return { kind: 'conflict', conflicts } as const;
    for (const slot of slots) this.#write(entity, slot, effect.adopts);
    if (entity.version >= entity.awaited) this.unpark(effect.entity.entityId, effect.entity.entityType);
    const answer: Answer = { done: slots.length, parked: this.snapshot(effect.entity).parked, failure };
    entity.answers.set(token, answer);
    return { kind: 'ok', answer } as const;
  }

  /** What is recorded before a rejection leaves: a parked entity waits for its dead letters. */
  recordDeadLetter({ event, reason }: Rejection): void {
    if (event === null || event.sequence === null || !rejectionReasons[reason].inSequence) return;
    const entity = this.entity(event);
    if (entity.parked !== null && event.sequence > entity.version) entity.awaited = Math.max(entity.awaited, event.sequence);
  }

  /** From now on what arrives is held until the dead letters have come. */
  beginReplay(entityId = 'e1'): void {
    this.entity({ entityType: 'order', entityId }).replaying = true;
  }

  /** What an operator does: the version is another, and what was known of it counts no more. */
  resync(version: number, entityId = 'e1'): void {
    const entity = this.entity({ entityType: 'order', entityId });
    entity.holes = Holes.parse(entity.holes).resynced(entity.version, version).toString();
    entity.version = version;
  }

  /** Its time is over. */
  endReplay(entityId = 'e1'): void {
    this.entity({ entityType: 'order', entityId }).replaying = false;
  }

  lookUp(event: Event): LookupResult {
    const sequence = event.sequence ?? 0;
    if (sequence > this.entity(event).version) return { status: 'above' };
    const payloadHash = this.entity(event).decided.get(sequence);
    return payloadHash === undefined ? { status: 'unknown' } : { status: 'known', sequence, payloadHash, result: null };
  }

  hasApplied(event: Event): boolean {
    const { applied } = this.entity(event);
    return applied.some(
      ({ sequence, id, payload }) => id === event.id && payload === event.payloadHash && sequence === (event.sequence ?? sequence),
    );
  }

  /** It is at or below the version, or its id is known with the same payload. */
  hasDecided(event: Event): boolean {
    const { version, ids, missing } = this.entity(event);
    if (event.sequence !== null && event.sequence <= version && !missing.has(event.sequence)) return true;
    return ids.get(event.id)?.payload === event.payloadHash;
  }

  /** Sequences applied, in the order of application. */
  applied(entityId = 'e1', entityType = 'order'): readonly number[] {
    return this.entity({ entityType, entityId }).applied.map(({ sequence }) => sequence);
  }

  parkedFor(entityId = 'e1'): RejectionReason | null {
    return this.entity({ entityType: 'order', entityId }).parked;
  }

  /** What another owner does meanwhile: applies the next events. */
  applyElsewhere(...events: readonly Event[]): void {
    for (const one of events) {
      const entity = this.entity(one);
      assert.equal(one.sequence, entity.version + 1);
      entity.version += 1;
      this.#record(entity, one, entity.version);
    }
  }

  /** Ids, payloads and what was done by which token are forgotten, as after their time to live. */
  forget(entityId = 'e1'): void {
    const { ids, decided } = this.entity({ entityType: 'order', entityId });
    ids.clear();
    decided.clear();
  }

  unpark(entityId = 'e1', entityType = 'order'): void {
    Object.assign(this.entity({ entityType, entityId }), { parked: null, awaited: 0, replaying: false });
  }

  entity({ entityType, entityId }: EntityRef): Entity {
    const key = JSON.stringify([entityType, entityId]);
    let entity = this.#entities.get(key);
    if (entity === undefined) {
      entity = {
        version: this.#initialVersion,
        holes: '',
        parked: null,
        parkedAt: 0,
        awaited: 0,
        replaying: false,
        epochs: new Map(),
        missing: new Set(),
        decided: new Map(),
        ids: new Map(),
        applied: [],
        answers: new Map(),
      };
      this.#entities.set(key, entity);
    }
    return entity;
  }

  #process(all: readonly Slot[]): { readonly slots: readonly Slot[]; readonly failure: Answer['failure'] } {
    const { fails = () => false, maxDone = Number.POSITIVE_INFINITY } = this.#options;
    const failing = all.findIndex(({ action, delivery }) => action === 'apply' && fails(delivery.event));
    if (failing >= 0 && failing < maxDone)
      return { slots: all.slice(0, failing), failure: { reason: 'handler_failed', detail: 'it fails' } };
    return { slots: all.slice(0, maxDone), failure: null };
  }

  #write(entity: Entity, { delivery, sequence, action, versionAfter, holesAfter }: Slot, adopts: boolean): void {
    const { event } = delivery;
    const name = `${event.entityId} sequence ${sequence} at version ${entity.version}`;
    assert.equal(sequence, event.sequence ?? entity.version + 1, `${name} is recorded under another sequence`);
    if (sequence <= entity.version) {
      assert.ok(entity.missing.delete(sequence), `${name} is applied again`);
      assert.equal(versionAfter, entity.version);
    } else {
      this.#advance(entity, sequence, adopts, name);
      assert.equal(versionAfter, sequence);
    }
    entity.holes = holesAfter;
    if (action === 'skip') entity.missing.add(sequence);
    else if (action === 'absorb') entity.decided.set(sequence, event.payloadHash);
    else this.#record(entity, event, sequence);
  }

  #advance(entity: Entity, sequence: number, adopts: boolean, name: string): void {
    const adopted = adopts && this.#options.allowsAdoption === true && entity.version === 0;
    if (!adopted) {
      assert.ok(sequence === entity.version + 1 || this.#options.allowsLeaps === true, `${name} runs ahead of its predecessor`);
      for (let passed = entity.version + 1; passed < sequence; passed++) entity.missing.add(passed);
    }
    entity.version = sequence;
  }

  #record(entity: Entity, event: Event, sequence: number): void {
    const { id, payloadHash: payload } = event;
    entity.decided.set(sequence, payload);
    entity.ids.set(id, { sequence, payload });
    entity.applied.push({ sequence, id, payload });
  }
}

function conflictsOf(entity: Entity, slots: readonly Slot[]): Conflicts {
  return slots.flatMap(({ delivery, sequence, action }, index) => {
    const known = action === 'apply' ? entity.ids.get(delivery.event.id) : undefined;
    if (known === undefined || known.sequence === sequence) return [];
    return [{ index, recordedSequence: known.sequence, samePayload: known.payload === delivery.event.payloadHash }];
  });
}
