/**
 * The store of a small world: the shipped rules, at once and for ever, and a ledger beside them that shares no code with these: what
 * was applied, who has claimed an entity, whether it was ever parked.
 */
import { rejectionReasons } from '../../src/events/reasons.ts';
import type { EntityRef } from '../../src/events/event.ts';
import type { CommitResult, DeadLetterRecord, Owner, ParkResult, Snapshot } from '../../src/ordering/entity.ts';
import type { StoredEntity } from '../../src/ordering/entity-rules.ts';
import type { Effect, Fact, FailureText, OperationEffect, Rejection } from '../../src/ordering/facts.ts';
import { eventOf } from '../support/event-of.ts';
import type { Rules } from './opened-core.ts';

type Asked<K extends OperationEffect['kind']> = Extract<Effect, { readonly kind: K }>;
/** By its name alone, `a2`: the second event of entity a. */
export type EventName = string;

/** A promise is broken. */
export class Breach extends Error {}

interface Entity extends StoredEntity {
  /** How many of its events were applied: 1, 2, … */
  applied: number;
  /** The highest epoch that has claimed it. */
  claimedBy: number;
  wasParked: boolean;
}

const leaseMs = 1_000_000;

const events = new Map<EventName, ReturnType<typeof eventOf>>();

export function eventNamed(name: EventName): ReturnType<typeof eventOf> {
  let event = events.get(name);
  if (event === undefined) {
    const [entityId, sequence] = [name.slice(0, 1), Number(name.slice(1))];
    event = Object.freeze(eventOf({ id: name, entityId, sequence, payloadHash: `hash of ${name}` }));
    events.set(name, event);
  }
  return event;
}

export class SmallStore {
  readonly #rules: Rules;
  #entities: ReadonlyMap<string, Entity> = new Map();
  /** Goes on where two times have to differ. */
  #nowMs = 1_000;
  #lastEpoch = 0;

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  fork(): SmallStore {
    const fork = new SmallStore(this.#rules);
    fork.#entities = this.#entities;
    fork.#nowMs = this.#nowMs;
    fork.#lastEpoch = this.#lastEpoch;
    return fork;
  }

  nextEpoch(): number {
    return ++this.#lastEpoch;
  }

  snapshot(entityId: string): Snapshot {
    return this.#rules.snapshotOf(this.#entities.get(entityId) ?? this.#unknown(), this.#nowMs);
  }

  applied(entityId: string): number {
    return this.#entities.get(entityId)?.applied ?? 0;
  }

  /** @param failsAt The index of the first slot that no attempt can process, or -1. */
  answer(asked: OperationEffect, owner: Owner, failsAt: number): Fact {
    const { op } = asked;
    switch (asked.kind) {
      case 'load':
        return { kind: 'loaded', op, snapshot: this.snapshot(asked.entity.entityId) };
      case 'claimAndRead': {
        const entity = this.#writable(asked.entity);
        const result = this.#rules.decideClaim(entity, { ...asked.entity, ...owner }, this.#nowMs);
        if (result.status !== 'ok') return { kind: 'fenced', op };
        this.#claimed(entity, owner, asked.entity);
        return { kind: 'loaded', op, snapshot: result.snapshot };
      }
      case 'commit':
        return this.#commit(asked, owner, failsAt);
      case 'lookUp':
        return {
          kind: 'lookedUp',
          op,
          results: asked.deliveries.map(({ event: { entityId, sequence, payloadHash } }) => {
            if (sequence! > this.snapshot(entityId).version) return { status: 'above' };
            return { status: 'known', sequence: sequence!, payloadHash, result: null };
          }),
        };
      case 'park':
        return this.#park(asked, owner);
      case 'reject':
        for (const rejection of asked.rejections) this.#record(rejection, owner);
        return { kind: 'rejected', op };
    }
  }

  /** An operator announces a replay: so far its copies are published. */
  beginReplay(entityId: string, parkedAt: string, replayedTo: number | undefined): Snapshot {
    const entity = this.#writable(eventNamed(`${entityId}1`));
    this.#rules.beginReplay(entity, { parkedAt, replayedTo }, leaseMs, this.#nowMs);
    return this.#rules.snapshotOf(entity, this.#nowMs);
  }

  /** Entities whose replay is announced, and nobody renews it. */
  get leased(): readonly string[] {
    return [...this.#entities].filter(([, { parked, replayUntilMs }]) => parked !== null && replayUntilMs > this.#nowMs).map(([id]) => id);
  }

  leasesEnd(): void {
    this.#nowMs += leaseMs;
  }

  get parked(): readonly string[] {
    return [...this.#entities].filter(([, { parked }]) => parked !== null).map(([id]) => id);
  }

  /** The rejection of what was not applied has to follow the parking of its entity. */
  judgeRejection(name: EventName): void {
    const { entityId, sequence } = eventNamed(name);
    const entity = this.#entities.get(entityId);
    if (sequence! > this.applied(entityId) && entity?.wasParked !== true)
      throw new Breach(`${name} was rejected and its entity was never parked`);
  }

  /** What it decides from. Epochs and tokens are compared only with those of the living: `epochs` in ascending order, by session. */
  text(epochs: readonly Named[], isAwaited: (token: string) => boolean, parkedAt: string | null): string {
    let text = '';
    for (const id of [...this.#entities.keys()].sort()) {
      const { version, parked, awaited, replayUntilMs, replayedTo, token, owners, applied, claimedBy, wasParked } = this.#entities.get(id)!;
      const parking = parked && `${parked.reason}${parked.sequence}${parked.at === parkedAt}`;
      const replay = replayUntilMs === 0 ? '' : `${replayUntilMs > this.#nowMs}${replayedTo}`;
      const owner = owners.get(0);
      const ownerText = owner && `${rankOf(owner.epoch, epochs)}${epochs.findIndex(({ session }) => session === owner.session)}`;
      const awaits = token !== null && isAwaited(token);
      text += `${id}${version} ${parking} ${awaited} ${replay} ${awaits} ${ownerText} ${applied} ${rankOf(claimedBy, epochs)} ${wasParked};`;
    }
    return text;
  }

  #commit(asked: Asked<'commit'>, owner: Owner, failsAt: number): Fact {
    const { op, entity: ref, expectedVersion, expectedHoles } = asked;
    const slots = failsAt < 0 ? asked.slots : asked.slots.slice(0, failsAt);
    const failure: FailureText | null = failsAt < 0 ? null : { reason: 'handler_failed', detail: 'it fails' };
    const last = slots.at(-1);
    if (last === undefined) return { kind: 'committed', op, done: 0, parked: null, failure };
    const entity = this.#writable(ref);
    const token = tokenOf(owner, op);
    const before = entity.token;
    const written = { token, expectedVersion, expectedHoles, newVersion: last.versionAfter, newHoles: last.holesAfter, state: null };
    const committed = slots.map(({ delivery: { event }, sequence, action }) => {
      return { id: event.id, recordId: true, sequence, payloadHash: event.payloadHash, result: null, consumed: action !== 'apply' };
    });
    const recorded = (id: string) => {
      const { sequence, payloadHash } = eventNamed(id);
      return sequence! <= entity.applied ? { sequence: sequence!, payloadHash } : undefined;
    };
    const result: CommitResult = this.#rules.decideCommit(entity, { ...ref, ...written, events: committed }, recorded, this.#nowMs);
    if (result.status === 'stale') return { kind: 'stale', op, snapshot: result.snapshot };
    if (result.status === 'conflict') return { kind: 'idConflict', op, conflicts: result.conflicts };
    if (result.status === 'failed') throw result.error;
    if (result.status === 'ok')
      this.#apply(
        entity,
        asked,
        committed.map(({ sequence }) => sequence),
      );
    else if (before !== token) throw new Breach(`a commit of ${ref.entityId} was taken for one that had gone through`);
    if (entity.applied !== entity.version)
      throw new Breach(`${ref.entityId} is at version ${entity.version}, and ${entity.applied} were applied`);
    return { kind: 'committed', op, done: slots.length, parked: result.parked, failure };
  }

  #apply(entity: Entity, { entity: { entityId }, expectedVersion }: Asked<'commit'>, sequences: readonly number[]): void {
    if (expectedVersion !== entity.applied)
      throw new Breach(`a stale commit of ${entityId} went through: for version ${expectedVersion} at ${entity.applied}`);
    for (const sequence of sequences) {
      if (sequence !== entity.applied + 1) throw new Breach(`${entityId}${sequence} was applied after ${entityId}${entity.applied}`);
      entity.applied++;
    }
  }

  #park(asked: Asked<'park'>, owner: Owner): Fact {
    const { op, expectedVersion, sequence, reason, detail } = asked;
    const entity = this.#writable(asked.entity);
    this.#nowMs++;
    const result: ParkResult = this.#rules.decidePark(
      entity,
      { ...asked.entity, ...owner, expectedVersion, sequence, reason, detail },
      this.#nowMs,
    );
    if (result.status === 'fenced') return { kind: 'fenced', op };
    if (result.status === 'stale') return { kind: 'stale', op, snapshot: result.snapshot };
    if (result.status === 'failed') throw result.error;
    this.#claimed(entity, owner, asked.entity);
    if (expectedVersion !== entity.applied)
      throw new Breach(`${asked.entity.entityId} was parked for version ${expectedVersion} at ${entity.applied}`);
    entity.wasParked = true;
    return { kind: 'parked', op };
  }

  #claimed(entity: Entity, { epoch }: Owner, { entityId }: EntityRef): void {
    if (epoch < entity.claimedBy) throw new Breach(`a stale owner has claimed or parked ${entityId}`);
    entity.claimedBy = epoch;
  }

  #record({ event, reason, detail }: Rejection, { shard }: Owner): void {
    const { id, entityType, entityId, sequence, type } = event!;
    if (!rejectionReasons[reason].inSequence) throw new Breach(`${id} was rejected as ${reason}`);
    const record: DeadLetterRecord = {
      fingerprint: id,
      id,
      entityType,
      entityId,
      sequence,
      type,
      reason,
      detail,
      shard,
      deadLetteredAt: '',
    };
    this.#rules.awaitDeadLetter(this.#writable({ entityType, entityId }), record);
  }

  #writable({ entityId }: EntityRef): Entity {
    const known = this.#entities.get(entityId);
    const entity: Entity = known === undefined ? this.#unknown() : { ...known, owners: new Map(known.owners) };
    this.#entities = new Map(this.#entities).set(entityId, entity);
    return entity;
  }

  #unknown(): Entity {
    return { ...this.#rules.unknownEntity(0), applied: 0, claimedBy: 0, wasParked: false };
  }
}

/** An owner, as far as owners of the same shard differ. */
type Named = Pick<Owner, 'epoch' | 'session'>;

export function tokenOf({ epoch, session }: Named, op: number): string {
  return `${epoch}:${session}:${op}`;
}

/** Where it lies among the living, and whether it is one of them. */
function rankOf(epoch: number, living: readonly Named[]): number {
  const lower = living.filter((one) => one.epoch < epoch).length;
  return 2 * lower + (living.some((one) => one.epoch === epoch) ? 1 : 0);
}
