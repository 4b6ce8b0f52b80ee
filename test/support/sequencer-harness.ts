/**
 * Drives sequencers against a store in memory, one fact at a time, in any order the test likes, and checks
 * after every step that nothing was settled twice, early or never. Everything is synchronous; time is a number.
 *
 * The checker and the store share no code with src/ordering: what the sequencer does is judged by what the
 * store was told and what was acknowledged, not by the sequencer's own words.
 */
import assert from 'node:assert/strict';
import type { Event } from '../../src/events/event.ts';
import type { RejectionReason } from '../../src/events/reasons.ts';
import type { Snapshot } from '../../src/ordering/entity.ts';
import {
  type Delivery,
  type Effect,
  type Fact,
  type Outcome,
  type RefusedDelivery,
  defaultSequencerLimits,
  initialVersionOf,
  type SequencerLimits,
} from '../../src/ordering/facts.ts';
import { ShardSequencer } from '../../src/ordering/sequencer.ts';
import { GapAudit } from './sequencer-gap-audit.ts';
import { ModelStore, type Owner } from './sequencer-model-store.ts';

export { ModelStore } from './sequencer-model-store.ts';

type EffectOf<K extends Effect['kind']> = Extract<Effect, { readonly kind: K }>;
type Asking = Extract<Effect, { readonly op: number }>;

export interface Settled {
  readonly tag: number;
  readonly outcome: Outcome | 'rejected';
  readonly reason: RejectionReason | null;
  readonly event: Event | null;
}

/** Makes an event; every field can be overridden. Events with the same entity and sequence are equal. */
export function event(sequence: number | null, fields: Partial<Event> = {}): Event {
  const entityId = fields.entityId ?? 'e1';
  return {
    id: `${entityId}-${sequence}`,
    idDerived: false,
    entityType: 'order',
    entityId,
    sequence,
    type: 'Changed',
    timestamp: null,
    timestampMs: null,
    data: {},
    dataJson: '{}',
    metadata: {},
    payloadHash: `hash of ${entityId} ${sequence}`,
    ...fields,
  };
}

export class SequencerHarness {
  readonly sequencer: ShardSequencer;
  readonly store: ModelStore;
  readonly owner: Owner;
  readonly limits: SequencerLimits;
  nowMs = 0;
  /** True: a test says itself when the broker has had its turn, with `takeTurn`. */
  holdsTurns = false;
  /** The turn that the broker is asked for. */
  turn: number | null = null;
  /** Operations that were asked and not answered, in the order of asking. */
  readonly asked: Asking[] = [];
  /** Every effect so far. */
  readonly log: Effect[] = [];
  readonly settled: Settled[] = [];
  readonly #unsettled = new Map<number, Delivery | RefusedDelivery>();
  readonly #settledTags = new Set<number>();
  readonly #gaps: GapAudit;
  #lastTag = 0;

  constructor(
    limits: Partial<SequencerLimits> = {},
    store = new ModelStore({ initialVersion: initialVersionOf(limits.firstSequence ?? 1) }),
    owner: Owner = { shard: 0, epoch: 1 },
  ) {
    // The configuration does it the other way round: of the window 80 % may be held.
    const prefetch = limits.maxHeld === undefined ? defaultSequencerLimits.prefetch : Math.ceil(limits.maxHeld / 0.8);
    this.limits = { ...defaultSequencerLimits, prefetch, ...limits };
    this.sequencer = new ShardSequencer(this.limits);
    this.#gaps = new GapAudit(this.limits);
    this.store = store;
    this.owner = owner;
  }

  /** Delivers events together and returns their tags. Answers nothing. */
  arrive(...events: readonly Event[]): readonly number[] {
    const deliveries = events.map((one) => ({ tag: ++this.#lastTag, event: one }));
    this.deliver(deliveries);
    return deliveries.map(({ tag }) => tag);
  }

  refuse(reason: RejectionReason): number {
    const tag = ++this.#lastTag;
    const refusal = { reason, detail: reason, id: null, entityType: null, entityId: null, sequence: null, type: null };
    this.deliver([{ tag, refusal }]);
    return tag;
  }

  /** Delivers and lets the store answer everything, as it comes. */
  process(...events: readonly Event[]): readonly number[] {
    const tags = this.arrive(...events);
    this.answerAll();
    return tags;
  }

  deliver(deliveries: readonly (Delivery | RefusedDelivery)[]): void {
    for (const delivery of deliveries) this.#unsettled.set(delivery.tag, delivery);
    this.fact({ kind: 'delivered', deliveries });
  }

  /** One step of the sequencer, with everything that can be checked about it. */
  fact(fact: Fact): readonly Effect[] {
    this.#gaps.before(this.nowMs, fact);
    const effects = this.sequencer.handle(this.nowMs, fact);
    for (const effect of effects) this.#carryOut(effect);
    this.#gaps.after([...this.#unsettled.values()], this.sequencer.overview().held);
    this.sequencer.assertInvariants();
    const lanes = this.asked.map((one) => ('entity' in one ? `${one.entity.entityType} ${one.entity.entityId}` : `operation ${one.op}`));
    assert.equal(new Set(lanes).size, lanes.length, `more than one operation of an entity is under way: ${lanes.join(', ')}`);
    return this.turn === null || this.holdsTurns ? effects : [...effects, ...this.takeTurn()];
  }

  /** The broker has had the turn that it was asked for. */
  takeTurn(): readonly Effect[] {
    const { turn } = this;
    assert.ok(turn !== null, 'no turn is asked for');
    this.turn = null;
    return this.fact({ kind: 'turned', turn });
  }

  /** Lets the store do what was asked and reports it. Takes the oldest question unless told which. */
  answer(index = 0): void {
    const [asked] = this.asked.splice(index, 1);
    assert.ok(asked !== undefined, 'nothing is asked');
    this.fact(this.#answerTo(asked));
  }

  answerAll(): void {
    for (let steps = 0; this.asked.length > 0; steps++) {
      assert.ok(steps < 10_000, `no end of questions; the last is ${JSON.stringify(this.asked[0])}`);
      this.answer();
    }
  }

  /** The store's reply to one operation never comes; it was carried out, or not. */
  loseReply(index: number, executed: boolean): number {
    const [asked] = this.asked.splice(index, 1);
    assert.ok(asked !== undefined, 'nothing is asked');
    // Of a rejection only the record is written: nothing leaves before the store has said so.
    if (executed && asked.kind !== 'reject') this.#answerTo(asked);
    return asked.op;
  }

  /** No reply comes to anything that is asked. */
  loseReplies(executed: boolean): readonly number[] {
    return this.asked.slice().map(() => this.loseReply(0, executed));
  }

  /** The channel is gone: returns what the broker will deliver again, in the order of its tags. */
  loseChannel(): readonly (Event | null)[] {
    const again = this.unsettled();
    this.asked.length = 0;
    this.turn = null;
    this.#unsettled.clear();
    this.fact({ kind: 'channelLost' });
    return again;
  }

  unsettled(): readonly (Event | null)[] {
    const byTag = [...this.#unsettled.values()].sort((a, b) => a.tag - b.tag);
    return byTag.map((delivery) => ('event' in delivery ? delivery.event : null));
  }

  get unsettledCount(): number {
    return this.#unsettled.size;
  }

  /** Moves the clock to the sequencer's next deadline and says so. False when there is none. */
  toNextDeadline(): boolean {
    const dueMs = this.sequencer.nextDeadlineMs();
    if (dueMs === null) return false;
    this.nowMs = Math.max(this.nowMs, dueMs);
    this.fact({ kind: 'timePassed' });
    return true;
  }

  /** Time goes on: the sequencer is called whenever it wants to be, and what it reads again on the way is answered. */
  pass(ms: number): void {
    const untilMs = this.nowMs + ms;
    for (let dueMs = this.sequencer.nextDeadlineMs(); dueMs !== null && dueMs < untilMs; dueMs = this.sequencer.nextDeadlineMs()) {
      const asked = new Set(this.asked);
      this.toNextDeadline();
      const readings = this.asked.filter((one) => one.kind === 'claimAndRead' && !asked.has(one));
      for (const reading of readings) this.answer(this.asked.indexOf(reading));
    }
    this.nowMs = untilMs;
    this.fact({ kind: 'timePassed' });
  }

  effects<K extends Effect['kind']>(kind: K): readonly EffectOf<K>[] {
    return this.log.filter((effect): effect is EffectOf<K> => effect.kind === kind);
  }

  /** What is under way, by kind. */
  get askedKinds(): readonly string[] {
    return this.asked.map(({ kind }) => kind);
  }

  /** Sequences with this outcome or reason, in the order in which they were settled. */
  sequences(outcome: Outcome | RejectionReason): readonly (number | null)[] {
    return this.settled.filter((one) => one.outcome === outcome || one.reason === outcome).map((one) => one.event?.sequence ?? null);
  }

  outcomeOf(tag: number): string | null {
    const found = this.settled.find((one) => one.tag === tag);
    return found === undefined ? null : (found.reason ?? found.outcome);
  }

  #answerTo(asked: Asking): Fact {
    const { op } = asked;
    switch (asked.kind) {
      case 'load':
        return { kind: 'loaded', op, snapshot: this.store.snapshot(asked.entity) };
      case 'claimAndRead': {
        const snapshot = this.store.claim(asked.entity, this.owner);
        return snapshot === null ? { kind: 'fenced', op } : { kind: 'loaded', op, snapshot };
      }
      case 'commit':
        return this.#commitFact(op, this.store.commit(asked, `${this.owner.epoch}:${op}`));
      case 'lookUp':
        return { kind: 'lookedUp', op, results: asked.deliveries.map(({ event: one }) => this.store.lookUp(one)) };
      case 'park': {
        const parked = this.store.park(asked.entity, this.owner, asked);
        return parked === 'ok'
          ? { kind: 'parked', op }
          : parked === 'fenced'
            ? { kind: 'fenced', op }
            : { kind: 'stale', op, snapshot: parked };
      }
      case 'reject':
        for (const { tag, reason, event: rejected } of asked.rejections) {
          this.#settle({ tag, outcome: 'rejected', reason, event: rejected });
        }
        return { kind: 'rejected', op };
    }
  }

  #commitFact(op: number, result: ReturnType<ModelStore['commit']>): Fact {
    if (result.kind === 'stale') return { kind: 'stale', op, snapshot: result.snapshot };
    if (result.kind === 'conflict') return { kind: 'idConflict', op, conflicts: result.conflicts };
    return { kind: 'committed', op, ...result.answer };
  }

  #carryOut(effect: Effect): void {
    this.log.push(effect);
    this.#gaps.ends(effect);
    if ('op' in effect) this.asked.push(effect);
    if (effect.kind === 'turn') this.turn = effect.turn;
    // On record before anything that is begun after it is carried out.
    if (effect.kind === 'reject') for (const rejection of effect.rejections) this.store.recordDeadLetter(rejection);
    if (effect.kind !== 'ack') return;
    for (const { tag, event: acked } of effect.deliveries) {
      if (effect.outcome === 'applied') assert.ok(this.store.hasApplied(acked), `${acked.id} is acknowledged but was never applied`);
      if (effect.outcome === 'duplicate') assert.ok(this.store.hasDecided(acked), `${acked.id} is acknowledged as a duplicate of nothing`);
      this.#settle({ tag, outcome: effect.outcome, reason: null, event: acked });
    }
  }

  #settle(one: Settled): void {
    assert.ok(!this.#settledTags.has(one.tag), `delivery ${one.tag} is settled twice`);
    assert.ok(this.#unsettled.delete(one.tag), `delivery ${one.tag} is settled and was not here`);
    this.#settledTags.add(one.tag);
    this.settled.push(one);
  }
}

/** What the store would answer of an entity. */
export function snapshot(fields: Partial<Snapshot> = {}): Snapshot {
  return { exists: true, version: 0, state: null, holes: '', parked: null, ...fields };
}
