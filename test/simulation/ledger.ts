/**
 * Judges what happens at the store and at the broker, from what was published and nothing else: it shares no code with `src`, keeps a
 * list per entity and looks at each observation once. The first breach of a promise (src/README.md, section 1) ends the world.
 */
import type { Schedule } from './virtual-time.ts';

/** One message that the producer made; it may be sent several times. */
export interface Letter {
  readonly id: string;
  /** `malformed`: no event. `forged`: takes the sequence of another event, with other content. */
  readonly kind: 'event' | 'forged' | 'malformed';
  readonly entityId: string;
  readonly sequence: number;
  /** What the entity's state has of it. */
  readonly value: number;
  readonly shard: number;
}

export interface Failure {
  readonly symptom: string;
  readonly detail: string;
  readonly atMs: number;
  readonly step: number;
}

/** The parts of a commit and of a park that are judged. */
interface SeenCommit {
  readonly entityId: string;
  readonly token: string;
  readonly expectedVersion: number;
  readonly newVersion: number;
  readonly state: string | null;
  readonly events: readonly { readonly id: string; readonly sequence: number }[];
}

interface SeenPark {
  readonly entityId: string;
  readonly epoch: number;
  readonly expectedVersion: number;
  readonly reason: string;
}

interface Entity {
  /** The events that were applied: the first is number 1. */
  readonly applied: Letter[];
  token: string | null;
  /** It has been parked at some time. */
  isParked: boolean;
  /** The highest epoch that has claimed it. */
  epoch: number;
  /** Messages at the broker or with a worker, by sequence: since when. */
  readonly present: Map<number, number>;
}

export class Ledger {
  failure: Failure | null = null;
  readonly letters = new Map<string, Letter>();
  /** Copies that are neither acknowledged nor with the dead letters. */
  unsettled = 0;
  /** What the broker saw, and what the workers counted. */
  readonly #settlements = { acknowledged: 0, rejected: 0 };
  readonly #counts = { acknowledged: 0, rejected: 0 };
  readonly #entities = new Map<string, Entity>();
  readonly #recorded = new Set<string>();
  readonly #tokens = new Set<string>();
  readonly #schedule: Schedule;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  fail(symptom: string, detail: string): void {
    this.failure ??= { symptom, detail, atMs: this.#schedule.nowMs, step: this.#schedule.steps };
  }

  versionOf(entityId: string): number {
    return this.#entity(entityId).applied.length;
  }

  /** The broker has it, for the first time or again. */
  arrived({ entityId, sequence }: Letter): void {
    this.unsettled++;
    const { present } = this.#entity(entityId);
    if (!present.has(sequence)) present.set(sequence, this.#schedule.nowMs);
  }

  committed({ entityId, token, expectedVersion, newVersion, state, events }: SeenCommit): void {
    const entity = this.#entity(entityId);
    const { applied } = entity;
    const detail = `${entityId} at ${applied.length}: ${expectedVersion} to ${newVersion} with ${events.map(({ sequence }) => sequence)}`;
    if (expectedVersion !== applied.length) this.fail('a stale commit went through', detail);
    if (this.#tokens.has(token)) this.fail('two commits had one token', `${token}: ${detail}`);
    for (const { id, sequence } of events) {
      const letter = this.letters.get(id);
      if (letter === undefined || letter.kind === 'malformed') this.fail('something was applied that nobody published', `${id}: ${detail}`);
      else if (letter.entityId !== entityId || letter.sequence !== sequence) this.fail('an event was applied in the wrong place', detail);
      else if (sequence !== applied.length + 1) this.fail('an event was applied out of order', detail);
      else applied.push(letter);
    }
    if (newVersion !== applied.length) this.fail('the version is not what was applied', detail);
    const expected = JSON.stringify({ values: applied.map(({ value }) => value) });
    if (state !== expected) this.fail('the state is not that of its events', `${detail}: ${state}, not ${expected}`);
    this.#tokens.add(token);
    entity.token = token;
  }

  /** The store says that this very commit had gone through. */
  wasDuplicate({ entityId, token, newVersion }: SeenCommit): void {
    const entity = this.#entity(entityId);
    if (entity.token !== token || entity.applied.length !== newVersion)
      this.fail('a commit was taken for one that went through', `${entityId} at ${entity.applied.length}: ${token} to ${newVersion}`);
  }

  claimed({ entityId, epoch }: { readonly entityId: string; readonly epoch: number }): void {
    const entity = this.#entity(entityId);
    if (epoch < entity.epoch) this.fail('a stale owner claimed an entity', `${entityId}: ${epoch} after ${entity.epoch}`);
    entity.epoch = epoch;
  }

  /** `isCalm`: nothing but the producer and the handlers went wrong, so a message that is there is delivered soon. */
  parked({ entityId, epoch, expectedVersion, reason }: SeenPark, isCalm: boolean): void {
    const entity = this.#entity(entityId);
    const detail = `${entityId} at ${entity.applied.length}, ${expectedVersion} expected, by epoch ${epoch}`;
    if (epoch < entity.epoch) this.fail('a stale owner parked an entity', `${detail} after ${entity.epoch}`);
    if (expectedVersion !== entity.applied.length) this.fail('an entity was parked that had moved on', detail);
    entity.isParked = true;
    entity.epoch = epoch;
    const sinceMs = entity.present.get(entity.applied.length + 1);
    if (reason === 'gap_timeout' && isCalm && sinceMs !== undefined && this.#schedule.nowMs - sinceMs > longestDeliveryMs)
      this.fail('a gap ended although the missing event was there', `${detail}, since ${sinceMs} ms`);
  }

  /** Its reason was recorded at the store. */
  recorded(id: string | null): void {
    if (id !== null) this.#recorded.add(id);
  }

  handled(entityId: string, sequence: number): void {
    const { applied } = this.#entity(entityId);
    if (applied.length < sequence - 1) this.fail('a handler ran ahead of its predecessor', `${entityId}: ${sequence} at ${applied.length}`);
  }

  acknowledged({ id, kind, entityId, sequence }: Letter): void {
    const inPlace = this.#entity(entityId).applied[sequence - 1];
    if (kind === 'malformed') this.fail('a message that is no event was acknowledged', id);
    else if (inPlace === undefined) this.fail('an event was acknowledged that is not applied', id);
    else if (inPlace.id !== id) this.fail('an event was acknowledged in whose place another one is applied', `${id}: ${inPlace.id}`);
    this.#settled(entityId, sequence, 'acknowledged');
  }

  rejected({ id, kind, entityId, sequence }: Letter): void {
    if (!this.#recorded.has(id)) this.fail('an event was rejected before its reason was recorded', id);
    const { applied, isParked } = this.#entity(entityId);
    if (kind === 'event' && !isParked && applied.length < sequence) this.fail('an event was rejected whose entity was never parked', id);
    this.#settled(entityId, sequence, 'rejected');
  }

  /** By the metrics of a worker. */
  counted(what: 'acknowledged' | 'rejected', count: number): void {
    this.#counts[what] += count;
  }

  settledTwice(detail: string): void {
    this.fail('a delivery was settled that its channel does not have', detail);
  }

  /**
   * At rest: everything was applied, and only what cannot be is left among the dead letters. Where no channel was lost (`isCalm`) the
   * metrics say what the broker saw.
   */
  rested(dead: readonly Letter[], parked: readonly string[], isCalm: boolean): void {
    const [settled, counted] = [JSON.stringify(this.#settlements), JSON.stringify(this.#counts)];
    if (isCalm && settled !== counted) this.fail('the metrics do not say what was settled', `${counted}, not ${settled}`);
    for (const entityId of parked) this.fail('an entity is parked at rest, with nothing to wait for', entityId);
    const expected = new Map<string, number>();
    for (const { entityId, sequence } of this.letters.values()) expected.set(entityId, Math.max(expected.get(entityId) ?? 0, sequence));
    for (const [entityId, last] of expected) {
      const { applied } = this.#entity(entityId);
      if (applied.length !== last) this.fail('an entity is not complete at rest', `${entityId}: ${applied.length} of ${last}`);
    }
    for (const { id, entityId, sequence } of dead)
      if (this.#entity(entityId).applied[sequence - 1]?.id === id) this.fail('an applied event is left among the dead letters', id);
  }

  /** Whether another event was applied in its place. */
  isTaken({ id, entityId, sequence }: Letter): boolean {
    const inPlace = this.#entity(entityId).applied[sequence - 1];
    return inPlace !== undefined && inPlace.id !== id;
  }

  #settled(entityId: string, sequence: number, how: 'acknowledged' | 'rejected'): void {
    this.unsettled--;
    this.#settlements[how]++;
    this.#entity(entityId).present.delete(sequence);
  }

  #entity(entityId: string): Entity {
    const known = this.#entities.get(entityId);
    if (known !== undefined) return known;
    const created: Entity = { applied: [], token: null, isParked: false, epoch: 0, present: new Map() };
    this.#entities.set(entityId, created);
    return created;
  }
}

/** A few frames and requests at their slowest. */
const longestDeliveryMs = 2_000;
