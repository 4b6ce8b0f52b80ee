/**
 * A shard, its two owners, the store and an operator, small enough to visit all that can happen: each action is one step of one of them,
 * and any that is possible may be the next. The sequencers of the owners, the rules of the store and the plan of a replay are the shipped
 * ones; the broker does what src/README.md, section 7, says. Judged is what store and broker are told, by the events that were published.
 *
 * What differs in nothing that anybody sees is one action: a frame to the broker is carried out when something depends on it, which is
 * when its letter is to be seen, when the window is full, and when the channel is lost: then as many of them as came through. Without an
 * operator the store's answer arrives as soon as the store has worked: what others do meanwhile could as well come before or after both.
 */
import { planEntity } from '../../src/dead-letters/replay-plan.ts';
import { defaultSequencerLimits, type Effect, type OperationEffect, type SequencerLimits } from '../../src/ordering/facts.ts';
import type { Core } from './opened-core.ts';
import { retryInMs, SmallOwner, type Step, type Surroundings } from './small-owner.ts';
import { Breach, type EventName, eventNamed, SmallStore, tokenOf } from './small-store.ts';

/** What may go wrong, each so many times. */
export const smallFaults = [
  'channel lost',
  'reply lost',
  'request lost',
  'request late',
  'handler fails',
  'keys unusable',
  'drain',
  'late timer',
  'replay',
  'replay dies',
] as const;
export type SmallFault = (typeof smallFaults)[number];

export interface Scope {
  readonly name: string;
  /** In the order of the queue, `a1` being the first event of entity a. A name that stands twice is a copy. */
  readonly queue: readonly EventName[];
  /** Published in this order, at any time. */
  readonly late: readonly EventName[];
  readonly faults: Readonly<Partial<Record<SmallFault, number>>>;
  /** The event whose handler may fail. */
  readonly fails?: EventName;
  readonly limits?: Partial<SequencerLimits>;
}

/** All deadlines of gaps come at once. */
const gapMs = 600_000;

/** A request of a sender who has given up, on its way to the store. */
interface Ghost {
  readonly effect: OperationEffect;
  readonly epoch: number;
  readonly session: string;
  readonly failsAt: number;
}

interface Replay {
  readonly entityId: string;
  readonly parkedAt: string | null;
  /** Not published yet. */
  readonly letters: readonly EventName[];
  readonly replayedTo: number | undefined;
  readonly isHeld: boolean;
}

export interface Action {
  readonly kind:
    | 'notices the loss'
    | 'is given an epoch'
    | 'is served'
    | 'gets its answer'
    | 'gives up waiting'
    | 'has had its turn'
    | 'has its frames carried out'
    | 'is sent'
    | 'comes to a deadline'
    | 'loses its channel'
    | 'is told to drain'
    | 'the producer publishes'
    | 'a late request is served'
    | 'the lease of a replay ends'
    | 'a replay is planned'
    | 'the replay goes on'
    | 'the replay publishes and dies'
    | 'the replay dies';
  /** The owner that does it, or to which it is done. */
  readonly who?: number;
  /** Which of its questions, or how many of its frames. */
  readonly at?: number;
  readonly entityId?: string;
  /** What of the scope's faults it takes. */
  readonly fault?: SmallFault;
}

interface State {
  store: SmallStore;
  queue: readonly EventName[];
  late: readonly EventName[];
  letters: readonly EventName[];
  owners: readonly SmallOwner[];
  /** Owners that have subscribed, the active one first. */
  consumers: readonly number[];
  sessions: number;
  ghosts: readonly Ghost[];
  replay: Replay | null;
  faults: Readonly<Partial<Record<SmallFault, number>>>;
}

export class SmallWorld {
  readonly scope: Scope;
  readonly #around: Surroundings;
  readonly #now: State;

  private constructor(scope: Scope, around: Surroundings, now: State) {
    this.scope = scope;
    this.#around = around;
    this.#now = now;
  }

  static begin(core: Core, scope: Scope): SmallWorld {
    const limits = { ...defaultSequencerLimits, gapTimeoutMs: gapMs, gapRereadMs: gapMs, entityRetryMs: retryInMs, ...scope.limits };
    const around = {
      core,
      limits: Object.freeze(limits),
      numbers: new Map<string, number>(),
      owners: new Map<string, SmallOwner>(),
      newcomers: new Map<string, SmallOwner>(),
    };
    const owners = ['s1', 's2'].map((session) => SmallOwner.newcomer(around, session));
    const { queue, late, faults } = scope;
    const nothing = { letters: [], ghosts: [], replay: null };
    const store = new SmallStore(core.rules);
    return new SmallWorld(scope, around, { ...nothing, store, queue, late, owners, consumers: [0, 1], sessions: 2, faults });
  }

  /** The world in which this is done next. @throws Breach when it breaks a promise. */
  after(action: Action): SmallWorld {
    const next = new SmallWorld(this.scope, this.#around, { ...this.#now, store: this.#now.store.fork() });
    next.#take(action);
    return next;
  }

  /**
   * All that may be next. First what happens where nothing goes wrong, in an order that comes to rest when the first is always taken;
   * at rest an operator replays.
   */
  actions(): readonly Action[] {
    const calm = this.#calmActions();
    if (calm.length === 0) for (const entityId of this.#replayable()) calm.push({ kind: 'a replay is planned', entityId });
    return calm.concat(this.#faultyActions(calm));
  }

  /** Of a world in which nothing is left to do but a replay. @throws Breach when something is not where it should be. */
  judgeRest(): void {
    const { store, queue, late, letters, owners } = this.#now;
    const published = new Set([...this.scope.queue, ...this.scope.late]);
    for (const name of published) {
      const { entityId, sequence } = eventNamed(name);
      if (sequence! > store.applied(entityId) && !letters.includes(name)) throw new Breach(`${name} is lost`);
    }
    const open = owners.flatMap(({ now: { unsettled, asked } }) => [...unsettled, ...asked]);
    if (queue.length + late.length + open.length > 0) throw new Breach('something is left, and nothing is waited for');
    const replayable = this.#replayable();
    for (const { entityId } of letters.map(eventNamed))
      if (published.has(`${entityId}${store.applied(entityId) + 1}`) && !replayable.includes(entityId))
        throw new Breach(`no replay can help ${letters}`);
    for (const entityId of store.parked) {
      const { version } = store.snapshot(entityId);
      if (!letters.map(eventNamed).some((event) => event.entityId === entityId && event.sequence! > version))
        throw new Breach(`${entityId} is parked at ${version}, and none of its events is among the dead letters`);
    }
  }

  #calmActions(): Action[] {
    const { owners, consumers, queue, late, ghosts, replay, store } = this.#now;
    const all: Action[] = [];
    owners.forEach((owner, who) => {
      const { isStale, waiting, epoch, asked, turn, frames } = owner.now;
      if (isStale) all.push({ kind: 'notices the loss', who });
      if (waiting.length > 0 && epoch === null) all.push({ kind: 'is given an epoch', who });
      asked.forEach(({ reply }, at) => {
        if (reply !== null) all.push({ kind: 'gets its answer', who, at });
        else if (owner.mayRun(at)) all.push({ kind: 'is served', who, at });
      });
      if (asked.some(({ isLost }) => isLost)) all.push({ kind: 'gives up waiting', who });
      if (turn !== null && !isStale) all.push({ kind: 'has had its turn', who });
      if (frames.some(({ how }) => how === 'reject') || (frames.length > 0 && owner.room === 0))
        all.push({ kind: 'has its frames carried out', who });
    });
    const [active] = consumers;
    if (active !== undefined && queue.length > 0 && owners[active]!.room > 0) all.push({ kind: 'is sent', who: active });
    if (late.length > 0) all.push({ kind: 'the producer publishes' });
    ghosts.forEach((_, at) => all.push({ kind: 'a late request is served', at }));
    if (replay !== null) all.push({ kind: 'the replay goes on' });
    if (store.leased.some((entityId) => entityId !== replay?.entityId)) all.push({ kind: 'the lease of a replay ends' });
    return all.concat(this.#deadlines(false));
  }

  /** Store and broker answer sooner than a deadline comes; but a process that was stopped may look at the clock first. */
  #deadlines(isAnswerOpen: boolean): Action[] {
    return this.#now.owners.flatMap((owner, who): Action[] => {
      const isOpen = owner.now.asked.length > 0 || owner.now.turn !== null;
      return owner.nextDeadlineMs === null || isOpen !== isAnswerOpen ? [] : [{ kind: 'comes to a deadline', who }];
    });
  }

  #faultyActions(calm: readonly Action[]): Action[] {
    const { owners, consumers, replay, faults } = this.#now;
    const all: Action[] = [];
    const add = (fault: SmallFault, ...actions: readonly Action[]) => {
      if ((faults[fault] ?? 0) > 0) for (const action of actions) all.push({ ...action, fault });
    };
    const served = calm.filter(({ kind }) => kind === 'is served');
    const effectOf = ({ who, at }: Action) => owners[who!]!.now.asked[at!]!.effect;
    add('reply lost', ...served);
    add('handler fails', ...served.filter((action) => owners[action.who!]!.failsAt(effectOf(action), this.scope.fails ?? null) >= 0));
    add('keys unusable', ...served.filter((action) => 'entity' in effectOf(action)));
    owners.forEach(({ now: { asked, isStale } }, who) => {
      if (!asked.some(({ reply, isLost }) => reply === null && !isLost)) return;
      add('request lost', { kind: 'gives up waiting', who });
      add('request late', { kind: 'gives up waiting', who });
      if (isStale) add('request late', { kind: 'notices the loss', who });
    });
    add('late timer', ...this.#deadlines(true));
    const [active] = consumers;
    if (active !== undefined) {
      const { frames, epoch, isDraining } = owners[active]!.now;
      for (let at = 0; at <= frames.length; at++) add('channel lost', { kind: 'loses its channel', who: active, at });
      if (epoch !== null && !isDraining) add('drain', { kind: 'is told to drain', who: active });
    }
    if (replay === null) for (const entityId of this.#replayable()) add('replay', { kind: 'a replay is planned', entityId });
    else add('replay dies', { kind: 'the replay dies' });
    if (replay?.isHeld && replay.letters.length > 0) add('replay dies', { kind: 'the replay publishes and dies' });
    return all;
  }

  describe({ kind, who, at, entityId, fault }: Action): string {
    const { queue, late, owners } = this.#now;
    const about: Readonly<Partial<Record<Action['kind'], () => string>>> = {
      'is sent': () => ` ${queue[0]}`,
      'is served': () => `: ${effectText(owners[who!]!.now.asked[at!]!.effect)}`,
      'gets its answer': () => `: ${effectText(owners[who!]!.now.asked[at!]!.effect)}`,
      'loses its channel': () => `, and ${at} of its ${owners[who!]!.now.frames.length} frames have come through`,
      'the producer publishes': () => ` ${late[0]}`,
      'a replay is planned': () => ` for ${entityId}`,
    };
    const name = who === undefined ? '' : `${'AB'[who]} `;
    return `${name}${kind}${about[kind]?.() ?? ''}${fault === undefined ? '' : ` (${fault})`}`;
  }

  #take({ kind, who = 0, at = 0, entityId = '', fault }: Action): void {
    const now = this.#now;
    if (fault !== undefined) now.faults = { ...now.faults, [fault]: now.faults[fault]! - 1 };
    const owner = now.owners[who]!;
    switch (kind) {
      case 'notices the loss':
        if (fault === 'request late') this.#leaveGhosts(owner);
        return this.#endSession(who);
      case 'is given an epoch':
        return this.#become(who, owner.began(now.store.nextEpoch()));
      case 'is served':
        return this.#serve(who, at, fault);
      case 'gets its answer':
        return this.#become(who, owner.answered(at, owner.now.asked[at]!.reply!));
      case 'gives up waiting':
        if (fault === 'request late') this.#leaveGhosts(owner);
        return this.#become(who, owner.gaveUp());
      case 'has had its turn':
        this.#carryOutFrames(who, owner.now.frames.length);
        return this.#become(who, now.owners[who]!.turned(this.#sendNext(now.owners[who]!.room)));
      case 'has its frames carried out':
        return this.#carryOutFrames(who, owner.now.frames.length);
      case 'is sent':
        return this.#become(who, owner.sent(this.#sendNext(1)));
      case 'comes to a deadline':
        return this.#become(who, owner.cameToDeadline());
      case 'loses its channel':
        return this.#loseChannel(who, at);
      case 'is told to drain':
        return this.#become(who, owner.wasToldToDrain());
      default:
        return this.#takeElsewhere(kind, at, entityId);
    }
  }

  /** What neither owner does. */
  #takeElsewhere(kind: Action['kind'], at: number, entityId: string): void {
    const now = this.#now;
    switch (kind) {
      case 'the producer publishes':
        now.queue = [...now.queue, now.late[0]!];
        now.late = now.late.slice(1);
        return;
      case 'a late request is served': {
        const { effect, epoch, session, failsAt } = now.ghosts[at]!;
        now.ghosts = now.ghosts.toSpliced(at, 1);
        now.store.answer(effect, { shard: 0, epoch, session }, failsAt);
        return;
      }
      case 'the lease of a replay ends':
        return now.store.leasesEnd();
      case 'a replay is planned':
        now.replay = this.#plan(entityId);
        return;
      case 'the replay goes on':
        return this.#goOnReplaying(true);
      case 'the replay publishes and dies':
        this.#goOnReplaying(false);
        now.replay = null;
        return;
      case 'the replay dies':
        now.replay = null;
        return;
      default:
        throw new Error(`nobody knows how to do this: ${kind}`);
    }
  }

  /** What it was told to do is judged, and done where it is not for the store. */
  #become(who: number, { owner, effects }: Step): void {
    this.#now.owners = this.#now.owners.with(who, owner);
    for (const effect of effects) this.#judge(effect, owner);
    const end = effects.find(({ kind }) => kind === 'drained' || kind === 'overtaken');
    if (end === undefined) return;
    if (!owner.now.isStale) this.#loseChannel(who, owner.now.frames.length);
    this.#endSession(who);
  }

  #judge(effect: Effect, { now: { isStale } }: SmallOwner): void {
    const { store, queue } = this.#now;
    if (effect.kind === 'halt') throw new Breach(`the shard halted, and the store had lost nothing: ${effect.detail}`);
    if (effect.kind === 'ack')
      for (const { event } of effect.deliveries)
        if (event.sequence! > store.applied(event.entityId)) throw new Breach(`${event.id} was acknowledged and never applied`);
    if (effect.kind !== 'park' || effect.reason !== 'gap_timeout' || isStale) return;
    const { entity, expectedVersion } = effect;
    const missing = `${entity.entityId}${expectedVersion + 1}`;
    if (store.applied(entity.entityId) === expectedVersion && queue.includes(missing))
      throw new Breach(`a gap of ${entity.entityId} ended, and ${missing} was there`);
  }

  #serve(who: number, at: number, fault: SmallFault | undefined): void {
    const { owners, store, replay, faults } = this.#now;
    const owner = owners[who]!;
    const { effect } = owner.now.asked[at]!;
    if (fault === 'keys unusable') return this.#become(who, owner.answered(at, { kind: 'entityUnavailable', op: effect.op, retryInMs }));
    const failsAt = owner.failsAt(effect, fault === 'handler fails' ? this.scope.fails! : null);
    const reply = store.answer(effect, owner.claimant, failsAt);
    const arrivesAtOnce = replay === null && (faults.replay ?? 0) === 0;
    if (fault === 'reply lost') this.#become(who, owner.served(at, null, failsAt));
    else this.#become(who, arrivesAtOnce ? owner.answered(at, reply, failsAt) : owner.served(at, reply, failsAt));
  }

  #leaveGhosts(owner: SmallOwner): void {
    const open = owner.now.asked.filter(({ reply, isLost }) => reply === null && !isLost);
    const { epoch, session } = owner.claimant;
    const ghosts = open.map(({ effect }) => ({ effect, epoch, session, failsAt: owner.failsAt(effect, null) }));
    this.#now.ghosts = [...this.#now.ghosts, ...ghosts];
  }

  #sendNext(count: number): readonly EventName[] {
    const names = this.#now.queue.slice(0, count);
    this.#now.queue = this.#now.queue.slice(names.length);
    return names;
  }

  /** The first `count`: frames keep their order. */
  #carryOutFrames(who: number, count: number): void {
    const owner = this.#now.owners[who]!;
    const { frames, atBroker } = owner.now;
    const rejected = frames.slice(0, count).filter(({ how }) => how === 'reject');
    const names = rejected.map(({ tag }) => atBroker.find((one) => one.tag === tag)!.name);
    for (const name of names) this.#now.store.judgeRejection(name);
    this.#now.letters = [...this.#now.letters, ...names].sort();
    this.#now.owners = this.#now.owners.with(who, owner.framesArrived(count).owner);
  }

  /** At the broker: what is not settled returns to the head, and the next consumer is active. */
  #loseChannel(who: number, frames: number): void {
    this.#carryOutFrames(who, frames);
    const now = this.#now;
    const owner = now.owners[who]!;
    now.queue = [...owner.now.atBroker.map(({ name }) => name), ...now.queue];
    now.consumers = now.consumers.filter((one) => one !== who);
    now.owners = now.owners.with(who, owner.lostAtBroker().owner);
  }

  /** The worker forgets everything and opens another channel. */
  #endSession(who: number): void {
    const now = this.#now;
    now.owners[who]!.judgeEnd();
    now.owners = now.owners.with(who, SmallOwner.newcomer(this.#around, `s${++now.sessions}`));
    now.consumers = [...now.consumers, who];
  }

  /** Entities of which something among the dead letters can be replayed. */
  #replayable(): readonly string[] {
    const entities = [...new Set(this.#now.letters.map((name) => eventNamed(name).entityId))];
    return entities.filter((entityId) => this.#plan(entityId).letters.length > 0);
  }

  #plan(entityId: string): Replay {
    const events = this.#now.letters.map(eventNamed).filter((event) => event.entityId === entityId);
    const matched = events.map(({ id, entityType, sequence }) => {
      return { messageId: id, fingerprint: id, entityType, entityId, sequence, reason: 'gap_timeout' as const };
    });
    const letters = { entity: events[0]!, matched, others: [], unread: [] };
    const plan = planEntity(letters, this.#now.store.snapshot(entityId), 1);
    const names = plan.letters.map(({ messageId }) => messageId);
    return { entityId, parkedAt: plan.parked?.at ?? null, letters: names, replayedTo: undefined, isHeld: false };
  }

  /** Announces itself, publishes letter by letter, and announces that all copies are published. */
  #goOnReplaying(removesLetters: boolean): void {
    const now = this.#now;
    const { entityId, parkedAt, letters, replayedTo, isHeld } = now.replay!;
    const hold = () => (parkedAt === null ? null : now.store.beginReplay(entityId, parkedAt, replayedTo).parked);
    const [next, ...rest] = letters;
    if (!isHeld) {
      const parked = hold();
      now.replay = parked !== null && parked.at !== parkedAt ? null : { ...now.replay!, isHeld: true };
    } else if (next === undefined) {
      hold();
      now.replay = null;
    } else {
      now.queue = [...now.queue, next];
      if (removesLetters) now.letters = now.letters.toSpliced(now.letters.indexOf(next), 1);
      now.replay = { ...now.replay!, letters: rest, replayedTo: eventNamed(next).sequence! };
    }
  }

  /** All that decides what may happen from here: worlds of one scope with the same text are one. */
  text(): string {
    const { owners, ghosts } = this.#now;
    const living = [...owners.map(({ now }) => now), ...ghosts].flatMap(({ epoch, session }) =>
      epoch === null ? [] : [{ epoch, session }],
    );
    living.sort((a, b) => a.epoch - b.epoch);
    const tokens = [...owners.flatMap((owner) => owner.tokens), ...ghosts.map(({ effect, ...owner }) => tokenOf(owner, effect.op))];
    const { 'reply lost': replies = 0, 'request lost': requests = 0, 'request late': lateOnes = 0 } = this.#now.faults;
    const numbers = owners.map((owner) => owner.number(replies + requests + lateOnes > 0));
    const [first, second] = numbers as [number, number];
    const textIn = (order: readonly number[]) => this.#textIn(order, numbers, living, tokens);
    if (first !== second) return textIn(first < second ? [0, 1] : [1, 0]);
    return [textIn([0, 1]), textIn([1, 0])].sort()[0]!;
  }

  /** The owners are alike: in which order they are written makes no difference. */
  #textIn(
    order: readonly number[],
    numbers: readonly number[],
    living: readonly { readonly epoch: number; readonly session: string }[],
    tokens: readonly string[],
  ): string {
    const { store, queue, late, letters, owners, consumers, ghosts, replay, faults } = this.#now;
    const rank = (session: string) => living.findIndex((one) => one.session === session);
    return [
      queue,
      late,
      letters,
      consumers.map((who) => order.indexOf(who)),
      order.map((who) => `${numbers[who]}-${rank(owners[who]!.now.session)}`),
      ghosts.map(({ effect, session, failsAt }) => `${effectText(effect)} ${rank(session)} ${failsAt}`),
      store.text(living, (token) => tokens.includes(token), replay?.parkedAt ?? null),
      replay === null ? '' : [replay.entityId, replay.letters, replay.replayedTo, replay.isHeld],
      Object.values(faults),
    ].join('|');
  }
}

function effectText(effect: OperationEffect): string {
  switch (effect.kind) {
    case 'commit':
      return `commit ${effect.slots.map(({ delivery: { event } }) => event.id).join('+')} at ${effect.expectedVersion}`;
    case 'park':
      return `park ${effect.entity.entityId} at ${effect.expectedVersion} for ${effect.sequence}`;
    case 'lookUp':
      return `look up ${effect.deliveries.map(({ event }) => event.id)}`;
    case 'reject':
      return `record the rejection of ${effect.rejections.map(({ event }) => event?.id)}`;
    default:
      return `${effect.kind === 'load' ? 'read' : 'claim and read'} ${effect.entity.entityId}`;
  }
}
