/**
 * Judges what happens at the store and at the broker, from what was published and nothing else: it shares no code with `src`, keeps a
 * list per entity and looks at each observation once. The first breach of a promise (src/README.md, section 1) ends the world.
 *
 * Where the store loses what it has, there are several copies of it, and each has an account of its own: what every copy has is
 * complete and in order, whatever another one had.
 */
import type { Schedule } from './virtual-time.ts';

/** One message that the producer made; it may be sent several times. */
export interface Letter {
  readonly id: string;
  /** `malformed`: no event. `forged`: takes the sequence of another event, with other content. */
  readonly kind: 'event' | 'forged' | 'malformed';
  readonly entityId: string;
  /** Of one that is sent without its sequence: the producer's own count. */
  readonly sequence: number;
  readonly isUnsequenced?: boolean;
  /** What it does to the process whose handler is given it, until it was found. */
  readonly poison?: 'kills' | 'blocks' | undefined;
  /** What the entity's state has of it. */
  readonly value: number;
  readonly shard: number;
}

/** What becomes of an event that comes before its predecessor; `skip-ahead` waits as `buffer` does, and then leaps over the gap. */
export type Rule = 'buffer' | 'fail' | 'skip' | 'log_and_process' | 'skip-ahead';

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
  /** One that is `consumed` is passed over, and has no effect. */
  readonly events: readonly { readonly id: string; readonly sequence: number; readonly consumed?: boolean }[];
}

interface SeenClaim {
  readonly entityId: string;
  readonly shard: number;
  readonly epoch: number;
  readonly session: string;
}

interface SeenPark extends SeenClaim {
  readonly expectedVersion: number;
  readonly reason: string;
}

interface SeenGap {
  readonly shard: number;
  readonly entityId: string;
  readonly missing: number;
}

interface Pause {
  /** A worker; null: all of them. */
  readonly of: string | null;
  readonly fromMs: number;
  readonly toMs: number;
  readonly unnoticedMs: number;
}

/** What one copy of the store has of an entity. */
interface Entry {
  /** By sequence, from 1 to the version: what was applied there. Null: a hole. */
  readonly places: (Letter | null)[];
  /** What was applied, in that order. */
  readonly log: Letter[];
  state: string | null;
  token: string | null;
  /** By shard: the highest epoch that has claimed it, and the last session that did so with it. */
  readonly owners: Map<number, { readonly epoch: number; readonly session: string }>;
}

/** What one copy of the store has. */
export class Account {
  readonly #ledger: Ledger;
  readonly #entries = new Map<string, Entry>();
  readonly #tokens = new Set<string>();

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  versionOf(entityId: string): number {
    return this.entry(entityId).places.length;
  }

  isApplied({ id, entityId, sequence, isUnsequenced }: Letter): boolean {
    const { places } = this.entry(entityId);
    return isUnsequenced ? places.some((one) => one?.id === id) : places[sequence - 1]?.id === id;
  }

  /** The version has passed it, and nothing was applied in its place. */
  isHole({ entityId, sequence }: Letter): boolean {
    return this.entry(entityId).places[sequence - 1] === null;
  }

  /** `isCalm`: what came first is decided first, and by an owner who knows of each parking. */
  committed({ entityId, token, expectedVersion, newVersion, state, events }: SeenCommit, isCalm = false): void {
    const entry = this.entry(entityId);
    const { places, log } = entry;
    const ledger = this.#ledger;
    const detail = `${entityId} at ${places.length}: ${expectedVersion} to ${newVersion} with ${events.map(({ sequence }) => sequence)}`;
    if (expectedVersion !== places.length) ledger.fail('a stale commit went through', detail);
    if (this.#tokens.has(token)) ledger.fail('two commits had one token', `${token}: ${detail}`);
    for (const { id, sequence, consumed = false } of events) {
      const letter = ledger.letters.get(id);
      if (letter === undefined || letter.kind === 'malformed')
        ledger.fail('something was applied that nobody published', `${id}: ${detail}`);
      else if (letter.entityId !== entityId || (letter.isUnsequenced ? places.length + 1 : letter.sequence) !== sequence)
        ledger.fail('an event was applied in the wrong place', detail);
      else this.#place(entry, letter, { sequence, consumed, isCalm, detail });
    }
    if (newVersion !== places.length) ledger.fail('the version is not what was applied', detail);
    const expected = log.length === 0 ? null : JSON.stringify({ values: log.map(({ value }) => value) });
    if ((state ?? entry.state) !== expected) ledger.fail('the state is not that of its events', `${detail}: ${state}, not ${expected}`);
    entry.state = expected;
    this.#tokens.add(token);
    entry.token = token;
    ledger.reached(entityId, places.length);
  }

  #place(
    entry: Entry,
    letter: Letter,
    { sequence, consumed, isCalm, detail }: { sequence: number; consumed: boolean; isCalm: boolean; detail: string },
  ): void {
    const ledger = this.#ledger;
    const { places, log } = entry;
    const { rule } = ledger;
    const next = places.length + 1;
    const leaps = sequence > next && (rule === 'skip' || rule === 'log_and_process' || rule === 'skip-ahead');
    const fills = sequence < next && rule === 'log_and_process' && places[sequence - 1] === null;
    if (consumed !== (leaps && rule === 'skip'))
      ledger.fail('an event was passed over that should be applied, or applied against it', detail);
    if (letter.isUnsequenced && this.isApplied(letter)) ledger.fail('an event without a sequence was applied twice', detail);
    else if (sequence !== next && !leaps && !fills) ledger.fail('an event was applied out of order', detail);
    if (isCalm && letter.isUnsequenced) ledger.tookItsTurn(letter);
    if (isCalm && leaps) ledger.leapt(letter, next);
    while (places.length < sequence - 1) places.push(null);
    places[sequence - 1] = consumed ? null : letter;
    if (!consumed) log.push(letter);
  }

  /** This copy says that this very commit had gone through. */
  wasDuplicate({ entityId, token, newVersion }: SeenCommit): void {
    const { token: last, places } = this.entry(entityId);
    if (last !== token || places.length !== newVersion)
      this.#ledger.fail('a commit was taken for one that went through', `${entityId} at ${places.length}: ${token} to ${newVersion}`);
  }

  claimed({ entityId, shard, epoch, session }: SeenClaim): void {
    const { owners } = this.entry(entityId);
    const last = owners.get(shard)?.epoch ?? 0;
    if (epoch < last) this.#ledger.fail('a stale owner claimed an entity', `${entityId}: ${epoch} after ${last}`);
    owners.set(shard, { epoch, session });
  }

  /** `isCalm`: nothing but the producer and the handlers went wrong, so a message that is there is delivered soon. */
  parked({ entityId, shard, epoch, session, expectedVersion, reason }: SeenPark, isCalm: boolean): void {
    const entry = this.entry(entityId);
    const detail = `${entityId} at ${entry.places.length}, ${expectedVersion} expected, by epoch ${epoch}`;
    const owner = entry.owners.get(shard) ?? { epoch: 0, session };
    if (epoch < owner.epoch) this.#ledger.fail('a stale owner parked an entity', `${detail} after ${owner.epoch}`);
    if (epoch === owner.epoch && session !== owner.session)
      this.#ledger.fail('an owner parked an entity that another one with its epoch has claimed', detail);
    if (expectedVersion !== entry.places.length) this.#ledger.fail('an entity was parked that had moved on', detail);
    entry.owners.set(shard, { epoch, session });
    this.#ledger.parked(entityId, entry.places.length + 1, reason === 'gap_timeout' && isCalm);
  }

  entry(entityId: string): Entry {
    const known = this.#entries.get(entityId);
    if (known !== undefined) return known;
    const created: Entry = { places: [], log: [], state: null, token: null, owners: new Map() };
    this.#entries.set(entityId, created);
    return created;
  }
}

/** What one publisher was asked to publish, and what came of it. */
export class Sender {
  readonly #ledger: Ledger;
  readonly #name: string;
  /** By call, counted from 1. */
  readonly #calls = new Map<number, { readonly id: string; isStored: boolean; isRefused: boolean }>();
  /** All calls before it are stored or given up. */
  #low = 1;
  #asked = 0;
  /** With one event in flight at a time not even one that was refused is overtaken. */
  readonly #oneByOne: boolean;
  #mayOvertake = false;

  constructor(ledger: Ledger, name: string, oneByOne: boolean) {
    this.#ledger = ledger;
    this.#name = name;
    this.#oneByOne = oneByOne;
  }

  /** The mark that the message of this call bears. */
  asked(id: string): string {
    this.#calls.set(++this.#asked, { id, isStored: false, isRefused: false });
    return `${this.#name} ${this.#asked}`;
  }

  /** By the broker; returns whether it had it already. */
  stored(mark: unknown): boolean {
    const number = this.#numberOf(mark);
    const call = this.#calls.get(number);
    if (call === undefined) return false;
    const isAgain = call.isStored;
    if (!call.isStored && number > this.#low && !this.#mayOvertake)
      this.#ledger.fail('an event overtook an earlier one of its publisher', `${call.id} by ${this.#name}, before call ${this.#low}`);
    call.isStored = true;
    this.#rise();
    return isAgain;
  }

  /** The broker refuses one: others that were on their way may be stored. */
  refused(mark: unknown): void {
    this.#mayOvertake ||= !this.#oneByOne;
    const call = this.#calls.get(this.#numberOf(mark));
    if (call !== undefined) call.isRefused = true;
  }

  /** The publisher says so; returns whether the broker had refused it before. */
  ended(mark: string, outcome: string): boolean {
    const number = this.#numberOf(mark);
    const call = this.#calls.get(number)!;
    if (outcome === 'confirmed' && !call.isStored)
      this.#ledger.fail('a publish was confirmed that the broker does not have', `${call.id} by ${this.#name}`);
    this.#calls.delete(number);
    this.#rise();
    return call.isRefused;
  }

  /** The publishes without an outcome. */
  get open(): number {
    return this.#calls.size;
  }

  #rise(): void {
    while (this.#low <= this.#asked && this.#calls.get(this.#low)?.isStored !== false) this.#low++;
  }

  #numberOf(mark: unknown): number {
    const [name, number] = String(mark).split(' ');
    return name === this.#name ? Number(number) : 0;
  }
}

/** Of an entity, whichever copy of the store there is. */
interface Entity {
  /** The highest version that a copy of the store has had. */
  highest: number;
  /** It has been parked at some time. */
  isParked: boolean;
  /** Events at the broker or with a worker, by sequence: since when, and as the how-manieth of all. */
  readonly present: Map<number, { readonly letter: Letter; readonly sinceMs: number; readonly order: number }>;
}

interface Settlements {
  acknowledged: number;
  skipped: number;
  rejected: number;
}

export class Ledger {
  failure: Failure | null = null;
  readonly letters = new Map<string, Letter>();
  rule: Rule = 'buffer';
  /** While fewer messages are unsettled no limit ends a gap. 0: handlers make entities wait, or the memory is short. */
  room = Number.POSITIVE_INFINITY;
  #lastFullMs = Number.NEGATIVE_INFINITY;
  /** Entities whose events are published from a log. */
  readonly logged = new Set<string>();
  /** The publishers that are judged, by name. */
  readonly senders = new Map<string, Sender>();
  /** Of the store as it is now. */
  account = new Account(this);
  /** When the store last lost something; null if it never did. */
  lossAtMs: number | null = null;
  gapTimeoutMs = 0;
  /** Entities whose events may lie in several queues. */
  readonly moved = new Set<string>();
  /** When the first of what a worker has of an entity, from that sequence on, was delivered to it; null where it has nothing. */
  deliveredSince: (worker: string, shard: number, entityId: string, sequence: number) => number | null = () => null;
  /** Copies that are neither acknowledged nor with the dead letters. */
  unsettled = 0;
  /** What the broker saw, and what the workers counted. */
  readonly #settlements: Settlements = { acknowledged: 0, skipped: 0, rejected: 0 };
  readonly #counts: Settlements = { acknowledged: 0, skipped: 0, rejected: 0 };
  readonly #entities = new Map<string, Entity>();
  /** Reasons, by event. */
  readonly #recorded = new Map<string, Set<string>>();
  #arrivals = 0;
  /** By id: how often the broker was given it. */
  readonly #copies = new Map<string, number>();
  /** By event: of each session that ended while it had it, and not because of an event, the worker. */
  readonly #cutOff = new Map<string, string[]>();
  readonly #endedByEvents = new Set<string>();
  readonly #fetched = new Set<string>();
  readonly #found = new Set<string>();
  #poisoned = 0;
  /** How many processes the events may end; null: nobody knows. */
  mostPoisoned: number | null = null;
  /** By worker and event: when the store last told the worker that the event is applied. */
  readonly #told = new Map<string, number>();
  /** By worker and shard: the last turn of the broker. */
  readonly #turns = new Map<string, number>();
  /** While which the store did not answer, or a process slept. */
  readonly #pauses: Pause[] = [];
  readonly #schedule: Schedule;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  fail(symptom: string, detail: string): void {
    this.failure ??= { symptom, detail, atMs: this.#schedule.nowMs, step: this.#schedule.steps };
  }

  /** Something of it is with the broker or a worker. */
  isUnderWay(entityId: string): boolean {
    return this.#entity(entityId).present.size > 0;
  }

  /** A worker's channel has ended, and with it the session that had this. */
  cameBack(worker: string, { id }: Letter): void {
    if (!this.#endedByEvents.has(worker)) this.#cutOff.set(id, [...(this.#cutOff.get(id) ?? []), worker]);
  }

  endedByEvent(worker: string): void {
    this.#endedByEvents.add(worker);
  }

  /** Whichever worker has it, the broker does not know. */
  fetched({ id }: Letter): void {
    this.#fetched.add(id);
  }

  /** What the processor does with it; it is mended once it is known by which event it fails. */
  suffers({ id, poison }: Letter): 'kills' | 'blocks' | null {
    if (poison === undefined || this.#found.has(id)) return null;
    if (++this.#poisoned > (this.mostPoisoned ?? Number.POSITIVE_INFINITY))
      this.fail('more processes ended than an event may cost', `${this.#poisoned}, the last by ${id}`);
    return poison;
  }

  /** An innocent event may be, if something else has ended two sessions that had it; of its own a worker knows whether it was a death. */
  #convicted(id: string, reason: 'process_killed' | 'process_blocked', by: string): void {
    const poison = this.letters.get(id)?.poison;
    const ends = (this.#cutOff.get(id) ?? []).filter((worker) => worker !== by).length;
    if (poison === undefined && ends < 2 && !this.#fetched.has(id))
      this.fail('an innocent event was taken for the one that ended the process', `${id}: ${reason} by ${by}, after ${ends} other ends`);
    if (poison === 'kills' && reason === 'process_blocked') this.fail('an event was said to block that ends the process', id);
    this.#found.add(id);
  }

  /** How often the broker was given it. */
  arrivalsOf({ id }: Letter): number {
    return this.#copies.get(id) ?? 0;
  }

  /** The broker has it, for the first time or again. */
  arrived(letter: Letter): void {
    const { id, entityId, sequence, kind } = letter;
    this.unsettled++;
    this.#noteRoom();
    const before = this.logged.has(entityId) && kind === 'event' ? this.letters.get(`${entityId}-${sequence - 1}`) : undefined;
    if (before !== undefined && this.arrivalsOf(before) === 0)
      this.fail('an event of the log was published before its predecessor', `${id}: ${before.id} was never there`);
    this.#copies.set(id, this.arrivalsOf(letter) + 1);
    const { present } = this.#entity(entityId);
    const order = ++this.#arrivals;
    if (kind !== 'malformed' && !present.has(sequence)) present.set(sequence, { letter, sinceMs: this.#schedule.nowMs, order });
  }

  /** The version goes to a later event. With a strategy that waits for nothing no event is passed over that had come before it. */
  leapt({ entityId, sequence }: Letter, missing: number): void {
    const { present, isParked } = this.#entity(entityId);
    const detail = `${entityId}: ${sequence} over ${missing}`;
    for (let passed = missing; passed < sequence; passed++) {
      const one = present.get(passed);
      if (one === undefined || this.#isDecided(one.letter)) continue;
      const waits = this.rule === 'skip-ahead';
      const sinceMs = Math.max(one.sinceMs, this.#lastFullMs);
      if (waits && passed === missing && this.unsettled < this.room && this.#schedule.nowMs - sinceMs > longestDeliveryMs)
        this.fail('a gap was leapt over although the missing event was there', detail);
      if (!waits && !isParked && one.order < (present.get(sequence)?.order ?? 0))
        this.fail('an event was passed over that had come before', detail);
    }
  }

  /** An event without a sequence is applied. */
  tookItsTurn({ id, entityId, sequence }: Letter): void {
    const { present } = this.#entity(entityId);
    const order = present.get(sequence)?.order ?? 0;
    for (const other of present.values())
      if (other.order < order && !this.account.isApplied(other.letter) && !this.#isDecided(other.letter))
        this.fail('an event without a sequence overtook another one', `${id} came after ${other.letter.id}`);
  }

  #noteRoom(): void {
    if (this.unsettled >= this.room) this.#lastFullMs = this.#schedule.nowMs;
  }

  #isDecided({ id }: Letter): boolean {
    return this.#recorded.has(id);
  }

  reached(entityId: string, version: number): void {
    const entity = this.#entity(entityId);
    entity.highest = Math.max(entity.highest, version);
  }

  /** `isCalm`: a message that is there is delivered soon. */
  parked(entityId: string, missing: number, isCalm: boolean): void {
    const entity = this.#entity(entityId);
    entity.isParked = true;
    const sinceMs = entity.present.get(missing)?.sinceMs;
    if (isCalm && sinceMs !== undefined && this.#schedule.nowMs - sinceMs > longestDeliveryMs)
      this.fail('a gap ended although the missing event was there', `${entityId}: ${missing} since ${sinceMs} ms`);
  }

  /** A copy of the store tells a worker that an event at or below the version is a duplicate, or that its commit is in it. */
  told(worker: string, { account, id }: { readonly account: Account; readonly id: string }): void {
    const letter = this.letters.get(id);
    if (letter === undefined || !account.isApplied(letter)) return;
    this.#told.set(`${worker} ${id}`, this.#schedule.nowMs);
  }

  /** Of the entities whose version was higher once: that version. */
  behind(): ReadonlyMap<string, number> {
    const behind = new Map<string, number>();
    for (const [entityId, { highest }] of this.#entities) if (this.account.versionOf(entityId) < highest) behind.set(entityId, highest);
    return behind;
  }

  /** The broker has answered this worker on the channel of this shard: what it had sent before comes first. */
  turned(worker: string, shard: number): void {
    this.#turns.set(`${worker} ${shard}`, this.#schedule.nowMs);
  }

  /** Of the store for every worker, or of one worker that slept. At most `unnoticedMs` of it count for its gaps. */
  paused(pause: Pause): void {
    this.#pauses.push(pause);
  }

  /** When a worker asks for the end of a gap: why it may not end yet; null if it may. */
  whyGapMayNotEnd(worker: string, { shard, entityId, missing }: SeenGap): string | null {
    const { nowMs } = this.#schedule;
    const there = this.#entity(entityId).present.get(missing);
    const turnMs = this.#turns.get(`${worker} ${shard}`) ?? 0;
    const isHere = there !== undefined && !there.letter.isUnsequenced && !this.moved.has(entityId);
    if (isHere && turnMs - there.sinceMs > longestFillingMs) return 'a gap ended although the missing event was there';
    const heldSinceMs = this.deliveredSince(worker, shard, entityId, missing + 1);
    if (heldSinceMs === null) return null;
    let stoodMs = 0;
    for (const { of, fromMs, toMs, unnoticedMs } of this.#pauses)
      if ((of ?? worker) === worker && fromMs >= heldSinceMs) stoodMs = Math.max(stoodMs, toMs - fromMs - unnoticedMs);
    return nowMs - heldSinceMs - stoodMs < this.gapTimeoutMs ? 'a gap ended before its time' : null;
  }

  endedGap(worker: string, shard: number): void {
    const atMs = this.#turns.get(`${worker} ${shard}`);
    if (atMs === undefined || this.#schedule.nowMs - atMs > longestTurnMs)
      this.fail('a gap ended without a turn of the broker', `${worker}, shard ${shard}, the last turn at ${atMs} ms`);
  }

  /** A worker has recorded its reason at the store. */
  recorded(id: string | null, reason: string, by: string): void {
    if (id === null) return;
    const entityId = this.letters.get(id)?.entityId;
    const isParked = entityId !== undefined && this.#entity(entityId).isParked;
    // The other strategies hold nothing unless the dead letters of the entity are replayed, or leap.
    const isForWant = reason === 'gap_timeout' || reason === 'buffer_overflow';
    const isFitting =
      (reason !== 'late' || this.rule === 'skip-ahead') &&
      (reason !== 'out_of_order' || this.rule === 'fail') &&
      (!isForWant || this.rule === 'buffer' || isParked);
    if (!isFitting) this.fail('an event was rejected for a reason that its strategy does not have', `${id}: ${reason} with ${this.rule}`);
    if (reason === 'process_killed' || reason === 'process_blocked') this.#convicted(id, reason, by);
    this.#recorded.set(id, (this.#recorded.get(id) ?? new Set()).add(reason));
  }

  handled(entityId: string, sequence: number): void {
    const { highest } = this.#entity(entityId);
    // Otherwise what it passes over has not moved the version yet.
    const waits = this.rule === 'buffer' || this.rule === 'fail';
    if (highest < sequence - 1 && waits) this.fail('a handler ran ahead of its predecessor', `${entityId}: ${sequence} at ${highest}`);
  }

  /** By a worker that has had it since then. */
  acknowledged(letter: Letter, worker: string, sinceMs: number): void {
    const { id, kind, entityId, sequence } = letter;
    const isSkipped = this.rule === 'skip' && !letter.isUnsequenced && this.account.isHole(letter);
    if (kind === 'malformed') this.fail('a message that is no event was acknowledged', id);
    else if (!isSkipped && (this.#told.get(`${worker} ${id}`) ?? -1) < sinceMs) {
      const inPlace = this.account.entry(entityId).places[sequence - 1];
      if (inPlace == null || inPlace.id === id || letter.isUnsequenced)
        this.fail('an event was acknowledged that is not applied', `${id} by ${worker}`);
      else this.fail('an event was acknowledged in whose place another one is applied', `${id}: ${inPlace.id}`);
    }
    this.#settled(letter, isSkipped ? 'skipped' : 'acknowledged');
  }

  rejected(letter: Letter): void {
    const { id, kind, entityId, sequence, isUnsequenced } = letter;
    const reasons = this.#recorded.get(id);
    if (reasons === undefined) this.fail('an event was rejected before its reason was recorded', id);
    const { isParked, highest } = this.#entity(entityId);
    if (kind === 'event' && !isUnsequenced && !isParked && highest < sequence)
      this.fail('an event was rejected whose entity was never parked', id);
    if (reasons?.size === 1 && reasons.has('late') && !this.account.isHole(letter))
      this.fail('an event was rejected as late that was not passed over', id);
    this.#settled(letter, 'rejected');
  }

  /** It came back too often: nobody has decided anything about it. */
  droppedByBroker(letter: Letter): void {
    this.#settled(letter, 'rejected');
  }

  /** One copy. */
  lost(letter: Letter): void {
    this.#gone(letter);
  }

  /** By the metrics of a worker. */
  counted(what: keyof Settlements, count: number): void {
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
    const late = new Set(dead.map(({ entityId, sequence }) => `${entityId} ${sequence}`));
    for (const [entityId, last] of expected) {
      const { places } = this.account.entry(entityId);
      if (places.length !== last) this.fail('an entity is not complete at rest', `${entityId}: ${places.length} of ${last}`);
      const lost = places.findIndex((place, at) => place === null && this.rule !== 'skip' && !late.has(`${entityId} ${at + 1}`));
      if (lost !== -1) this.fail('an event is neither applied nor among the dead letters', `${entityId}: ${lost + 1}`);
      if (this.rule === 'log_and_process' && places.includes(null))
        this.fail('a hole is left at rest', `${entityId}: ${places.indexOf(null) + 1}`);
    }
    const left = new Set(dead.map(({ id }) => id));
    for (const letter of this.letters.values()) {
      const isSkipped = this.rule === 'skip' && this.account.isHole(letter);
      if (this.lossAtMs === null && !left.has(letter.id) && !isSkipped && !this.account.isApplied(letter))
        this.fail('a message is neither applied nor among the dead letters', letter.id);
    }
    for (const letter of dead)
      if (this.lossAtMs === null && letter.kind !== 'malformed' && this.account.isApplied(letter))
        this.fail('an applied event is left among the dead letters', letter.id);
  }

  /**
   * Whether it can never be applied: another event was in its place, or the version leapt over it; once the store has lost something also
   * itself, if it was rejected because of one that was lost.
   */
  isTaken(letter: Letter): boolean {
    if (letter.isUnsequenced) return false;
    const { id, entityId, sequence } = letter;
    const inPlace = this.account.entry(entityId).places[sequence - 1];
    if (inPlace === null) return this.rule === 'skip-ahead';
    return inPlace !== undefined && (inPlace.id !== id || this.lossAtMs !== null);
  }

  #settled(letter: Letter, how: keyof Settlements): void {
    this.#settlements[how]++;
    this.#gone(letter);
  }

  #gone({ entityId, sequence, kind }: Letter): void {
    this.#noteRoom();
    this.unsettled--;
    if (kind !== 'malformed') this.#entity(entityId).present.delete(sequence);
  }

  #entity(entityId: string): Entity {
    const known = this.#entities.get(entityId);
    if (known !== undefined) return known;
    const created: Entity = { highest: 0, isParked: false, present: new Map() };
    this.#entities.set(entityId, created);
    return created;
  }
}

/** Within so long a queue fills the room that it was given, and what was published is delivered. */
const longestFillingMs = 200;
/** A few frames and requests at their slowest. */
const longestDeliveryMs = 2_000;
/** From the broker's answer to the park at the store, through a batch that was under way. */
const longestTurnMs = 1_000;
