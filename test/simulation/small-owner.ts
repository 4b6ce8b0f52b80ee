/**
 * One of the two owners of a small world: a worker with its channel, from one opening to the next, around the shipped sequencer. It does
 * not change: each step gives another one, and what the sequencer asked for. Owners that are alike are one, and each takes the same step
 * once, for most states of the world differ in what the others have done meanwhile.
 */
import { createHash } from 'node:crypto';
import type { Owner } from '../../src/ordering/entity.ts';
import type { Delivery, Effect, Fact, OperationEffect, SequencerLimits } from '../../src/ordering/facts.ts';
import type { ShardSequencer } from '../../src/ordering/sequencer.ts';
import { type Core, copyOf, dumpOf, forFullWindows, forOutages } from './opened-core.ts';
import { Breach, type EventName, eventNamed, tokenOf } from './small-store.ts';

interface Asked {
  readonly effect: OperationEffect;
  /** The store has done it, and the reply is lost: it waits to be given up. */
  readonly isLost: boolean;
  /** The store has done it, and this is on its way. */
  readonly reply: Fact | null;
}

interface Message {
  readonly tag: number;
  readonly name: EventName;
}

interface Frame {
  readonly tag: number;
  readonly how: 'ack' | 'reject';
}

interface State {
  /** Null until something is delivered. */
  sequencer: ShardSequencer | null;
  nowMs: number;
  /** Null until something is delivered, and a little longer. */
  epoch: number | null;
  session: string;
  /** Delivered, and not handed on: there is no epoch yet. */
  waiting: readonly Delivery[];
  asked: readonly Asked[];
  /** Operations of which a handler has failed, and at which slot. */
  failed: readonly (readonly [op: number, slot: number])[];
  unsettled: readonly Message[];
  /** What the broker has given to this channel and is not settled there. */
  atBroker: readonly Message[];
  frames: readonly Frame[];
  turn: number | null;
  /** The broker has closed the channel, and the worker does not know. */
  isStale: boolean;
  isDraining: boolean;
  lastTag: number;
}

/** What never changes in a world. */
export interface Surroundings {
  readonly core: Core;
  readonly limits: SequencerLimits;
  /** By their texts: owners with one number behave in the same way. */
  readonly numbers: Map<string, number>;
  /** Interned: by number, epoch, session, operations under way and the last operation's id. */
  readonly owners: Map<string, SmallOwner>;
  /** By their sessions. */
  readonly newcomers: Map<string, SmallOwner>;
}

/** What an owner has become, and what its sequencer asked for on the way. */
export interface Step {
  readonly owner: SmallOwner;
  readonly effects: readonly Effect[];
}

export const retryInMs = 1_000;

export class SmallOwner {
  readonly now: Readonly<State>;
  readonly #around: Surroundings;
  readonly #steps = new Map<string, Step>();
  #endIsJudged = false;
  readonly #numbers: [number | null, number | null] = [null, null];

  private constructor(around: Surroundings, now: State) {
    this.#around = around;
    this.now = now;
  }

  static newcomer(around: Surroundings, session: string): SmallOwner {
    const known = around.newcomers.get(session);
    if (known !== undefined) return known;
    const nothing = { waiting: [], asked: [], failed: [], unsettled: [], atBroker: [], frames: [] };
    const state = { sequencer: null, nowMs: 0, epoch: null, turn: null, isStale: false, isDraining: false, lastTag: 0 };
    const newcomer = new SmallOwner(around, { ...nothing, ...state, session });
    around.newcomers.set(session, newcomer);
    return newcomer;
  }

  static #interned(around: Surroundings, state: State): SmallOwner {
    const owner = new SmallOwner(around, state);
    const key = [owner.number(true), state.epoch, state.session, owner.#operations, (state.sequencer as any)?._operations._lastId].join();
    const known = around.owners.get(key) ?? owner;
    around.owners.set(key, known);
    return known;
  }

  /** As whom the store knows it. */
  get claimant(): Owner {
    return { shard: 0, epoch: this.now.epoch!, session: this.now.session };
  }

  /** For how many deliveries more its window has room. */
  get room(): number {
    return Math.max(0, this.#around.limits.prefetch - this.now.atBroker.length);
  }

  get nextDeadlineMs(): number | null {
    return this.now.sequencer?.nextDeadlineMs() ?? null;
  }

  /** Of commits that may still be carried out. */
  get tokens(): readonly string[] {
    return this.now.epoch === null ? [] : this.#operations.map((op) => tokenOf(this.claimant, op));
  }

  get #operations(): readonly number[] {
    return this.now.sequencer === null ? [] : [...(this.now.sequencer as any)._operations._underWay.keys()];
  }

  /** A rejection is on record before anything that was asked for later is done. */
  mayRun(at: number): boolean {
    const isOpen = ({ reply, isLost }: Asked) => reply === null && !isLost;
    const { asked } = this.now;
    return isOpen(asked[at]!) && !asked.slice(0, at).some((one) => one.effect.kind === 'reject' && isOpen(one));
  }

  /** The slot at which its handler fails, now or when it was first tried; -1 where none does. */
  failsAt(effect: OperationEffect, failing: EventName | null): number {
    const before = this.now.failed.find(([op]) => op === effect.op);
    if (before !== undefined) return before[1];
    if (effect.kind !== 'commit') return -1;
    return effect.slots.findIndex(({ action, delivery }) => action === 'apply' && delivery.event.id === failing);
  }

  sent(names: readonly EventName[]): Step {
    return this.#step(`sent ${names}`, (state, handle) => receive(state, names, handle));
  }

  began(epoch: number): Step {
    return this.#step(`began ${epoch}`, (state, handle) => {
      state.epoch = epoch;
      for (let [next, ...rest] = state.waiting; next !== undefined; [next, ...rest] = state.waiting) {
        state.waiting = rest;
        handle({ kind: 'delivered', deliveries: [next] });
      }
    });
  }

  /** The broker's turn is over: all that it had sent was taken in before. */
  turned(names: readonly EventName[]): Step {
    return this.#step(`turned ${names}`, (state, handle) => {
      const turn = state.turn!;
      state.turn = null;
      receive(state, names, handle);
      handle({ kind: 'turned', turn });
    });
  }

  /** The store has done it, with a handler that failed or without; the reply is on its way, or lost. */
  served(at: number, reply: Fact | null, failsAt: number): Step {
    return this.#step(`served ${at} ${textOf(reply)} ${failsAt}`, (state) => {
      const { effect } = state.asked[at]!;
      noteFailure(state, effect, failsAt);
      state.asked = state.asked.with(at, { effect, isLost: reply === null, reply });
    });
  }

  answered(at: number, fact: Fact, failsAt = -1): Step {
    return this.#step(`answered ${at} ${textOf(fact)} ${failsAt}`, (state, handle) => {
      const { effect } = state.asked[at]!;
      noteFailure(state, effect, failsAt);
      state.asked = state.asked.toSpliced(at, 1);
      if (fact.kind === 'rejected' && effect.kind === 'reject') settle(state, effect.rejections, 'reject');
      handle(fact);
    });
  }

  /** What was asked and not answered will be asked again. */
  gaveUp(): Step {
    return this.#step('gave up', (state, handle) => {
      const open = state.asked.filter(({ reply }) => reply === null);
      state.asked = state.asked.filter(({ reply }) => reply !== null);
      handle({ kind: 'storeUnavailable', ops: open.map(({ effect }) => effect.op), retryInMs });
    });
  }

  cameToDeadline(): Step {
    return this.#step('deadline', (state, handle) => {
      state.nowMs = this.nextDeadlineMs!;
      handle({ kind: 'timePassed' });
    });
  }

  wasToldToDrain(): Step {
    return this.#step('drain', (state, handle) => {
      state.isDraining = true;
      handle({ kind: 'drainRequested' });
    });
  }

  /** The first `count` of its frames have reached the broker. */
  framesArrived(count: number): Step {
    return this.#step(`frames ${count}`, (state) => {
      const settled = state.frames.slice(0, count).map(({ tag }) => tag);
      for (const tag of settled) if (!state.atBroker.some((one) => one.tag === tag)) throw new Breach('a delivery is settled twice');
      state.frames = state.frames.slice(count);
      state.atBroker = state.atBroker.filter(({ tag }) => !settled.includes(tag));
    });
  }

  lostAtBroker(): Step {
    return this.#step('lost', (state) => Object.assign(state, { isStale: true, atBroker: [], frames: [] }));
  }

  /** The channel is gone, and nothing may be left of what came through it. */
  judgeEnd(): void {
    if (this.now.sequencer === null || this.#endIsJudged) return;
    const ended = copyOf(this.now.sequencer);
    ended.handle(this.now.nowMs, { kind: 'channelLost' });
    ended.assertInvariants();
    const { state: _, ...left } = ended.overview();
    if (Object.values(left).some((one) => one !== 0 && one !== false) || ended.nextDeadlineMs() !== null)
      throw new Breach(`the channel is lost, and the sequencer keeps ${JSON.stringify(left)}`);
    this.#endIsJudged = true;
  }

  /** Two owners of the same number behave in the same way, as long as the store knows them by the same epoch. */
  number(mayLoseReplies: boolean): number {
    const hasOutages = mayLoseReplies || this.now.asked.some(({ isLost }) => isLost);
    const known = this.#numbers[hasOutages ? 0 : 1];
    if (known !== null) return known;
    // Kept as digests: there are many texts, of some kilobytes each.
    const text = createHash('md5').update(this.#textWith(hasOutages)).digest('base64');
    const { numbers } = this.#around;
    const number = numbers.get(text) ?? numbers.size;
    numbers.set(text, number);
    this.#numbers[hasOutages ? 0 : 1] = number;
    return number;
  }

  #textWith(hasOutages: boolean): string {
    const { sequencer, waiting, asked, failed, unsettled, atBroker, frames, turn, isStale, isDraining, epoch } = this.now;
    const messages = [...new Map([...unsettled, ...atBroker].map((one) => [one.tag, one])).values()].sort((a, b) => a.tag - b.tag);
    const nameOf = (tag: number) => {
      const at = messages.findIndex((one) => one.tag === tag);
      return `${messages[at]?.name}.${at}`;
    };
    const { prefetch, maxHeld } = this.#around.limits;
    const without = [...(prefetch >= 100 && maxHeld >= 100 ? forFullWindows : []), ...(hasOutages ? [] : forOutages)];
    const operations = this.#operations;
    return [
      sequencer === null ? '' : dumpOf(sequencer, { nameOf, without }),
      waiting.map(({ tag }) => nameOf(tag)),
      asked.map(({ effect, isLost, reply }) => `${operations.indexOf(effect.op)}${isLost}${textOf(reply)}`),
      failed.filter(([op]) => operations.includes(op)).map(([op, slot]) => `${operations.indexOf(op)}-${slot}`),
      unsettled.map(({ tag }) => nameOf(tag)),
      atBroker.map(({ tag }) => nameOf(tag)),
      frames.map(({ tag, how }) => how + nameOf(tag)),
      turn === null ? '' : turn - (sequencer as any)._gaps.clock._turn,
      [isStale, isDraining, epoch === null],
    ].join('/');
  }

  #step(name: string, take: (state: State, handle: (fact: Fact) => void) => void): Step {
    const known = this.#steps.get(name);
    if (known !== undefined) return known;
    const [state, effects]: [State, Effect[]] = [{ ...this.now }, []];
    take(state, (fact) => this.#handle(state, effects, fact));
    const step = { owner: SmallOwner.#interned(this.#around, state), effects };
    this.#steps.set(name, step);
    return step;
  }

  /** One step of the sequencer, and what it means for this side of the channel. */
  #handle(state: State, effects: Effect[], fact: Fact): void {
    const { core, limits } = this.#around;
    const sequencer = state.sequencer === null ? new core.ShardSequencer(limits) : copyOf(state.sequencer);
    state.sequencer = sequencer;
    for (const effect of sequencer.handle(state.nowMs, fact)) {
      effects.push(effect);
      if (effect.kind === 'ack') settle(state, effect.deliveries, 'ack');
      else if (effect.kind === 'turn') state.turn = effect.turn;
      else if ('op' in effect) state.asked = [...state.asked, { effect: frozen(effect), isLost: false, reply: null }];
    }
    sequencer.assertInvariants();
    const { unsettled, state: phase } = sequencer.overview();
    if (phase === 'running' && unsettled !== state.unsettled.length - state.waiting.length)
      throw new Breach(`of ${state.unsettled.map(({ name }) => name)} the sequencer has only ${unsettled}`);
    const entities = state.asked.flatMap(({ effect }) => ('entity' in effect ? [effect.entity.entityId] : []));
    if (new Set(entities).size < entities.length) throw new Breach(`two operations of an entity are under way: ${entities}`);
  }
}

function receive(state: State, names: readonly EventName[], handle: (fact: Fact) => void): void {
  if (names.length === 0) return;
  const messages = names.map((name, index) => ({ tag: state.lastTag + 1 + index, name }));
  state.lastTag += names.length;
  state.unsettled = [...state.unsettled, ...messages];
  state.atBroker = [...state.atBroker, ...messages];
  const deliveries = messages.map(({ tag, name }): Delivery => Object.freeze({ tag, event: eventNamed(name) }));
  if (state.epoch === null) state.waiting = [...state.waiting, ...deliveries];
  else handle({ kind: 'delivered', deliveries });
}

function settle(state: State, settled: readonly { readonly tag: number }[], how: Frame['how']): void {
  const tags = settled.map(({ tag }) => tag);
  for (const tag of tags) if (!state.unsettled.some((one) => one.tag === tag)) throw new Breach('a delivery is settled twice');
  state.unsettled = state.unsettled.filter(({ tag }) => !tags.includes(tag));
  // A channel that is closed takes no frames.
  if (!state.isStale) state.frames = [...state.frames, ...tags.map((tag) => ({ tag, how }))];
}

function noteFailure(state: State, { op }: OperationEffect, slot: number): void {
  if (slot >= 0 && !state.failed.some((one) => one[0] === op)) state.failed = [...state.failed, [op, slot]];
}

/** It is shared from now on. */
function frozen(effect: OperationEffect): OperationEffect {
  for (const part of Object.values(effect)) if (Array.isArray(part)) Object.freeze(part);
  return Object.freeze(effect);
}

/** What the sequencer decides from; what is only said to people is left out. */
function textOf(fact: Fact | null): string {
  return fact === null
    ? ''
    : JSON.stringify(fact, (key, value: unknown) => (key === 'op' || key === 'at' || key === 'detail' ? undefined : value));
}
