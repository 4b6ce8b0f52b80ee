/**
 * Finds the event whose processor ends the process, by what sessions of a shard leave on record in the store. A session that ends as
 * it should takes its leave; one whose process died leaves its last note to the next session, and only that one takes this trouble:
 *
 *   no leave was taken ─▶ what comes again is *suspect*: it is on record while its processor runs, together with others
 *   on record at a death ─▶ it is *accused*: it is tried alone in its process, and on record as such
 *   twice tried alone at a death ─▶ it is *guilty*: its processor is not run any more, it is dead-lettered
 *   acknowledged or rejected ─▶ it is forgotten
 *
 * So an event costs four processes where what else is running ends quickly. More die of one that is slow to end its process, and two more
 * of each further one that was found with it. Where none died, only leaves are written. Two deaths and not one, because a process also
 * dies of what is not the event's fault. Events that come for the first time are on no record: they are suspect after the next death.
 *
 * A trial holds back whatever else the process would process, of any shard, and waits for what is running already. Both for a moment,
 * which grows with each death; what is not alone by then, or not any more, is on record together with others before anything else runs.
 *
 * A death is known by the leave that is missing. One that a session alive takes too late counts as a death all the same, but not for its
 * own process, which strikes it out when it is next to decide.
 */
import { UnavailableError } from '../errors.ts';
import { entityFields, type Event } from '../events/event.ts';
import { entityKey, fingerprint } from '../events/identity.ts';
import type { Log } from '../observability/log.ts';
import type { TrialsStatus } from '../observability/worker-status.ts';
import type { Delivery, FailureText, Slot } from '../ordering/facts.ts';
import type { EpochResult, Store } from '../stores/store.ts';
import { endOfTick, patiently, type Time, within } from '../time.ts';

export interface TrialsOptions {
  /** Where sessions leave their notes: the store. */
  readonly record: Pick<Store, 'noteSession'>;
  readonly shard: number;
  readonly epoch: number;
  /** The note of the session before this one. */
  readonly unfinished: string;
  /** One for all shards of the process. */
  readonly bench: TrialBench;
  /** Aborted when the session ends. */
  readonly life: AbortSignal;
  readonly fail: (error: unknown) => void;
  readonly log: Pick<Log, 'info' | 'warn'>;
  readonly time: Time;
}

interface Trial {
  readonly time: Time;
  readonly life: AbortSignal;
  readonly patienceMs: number;
  readonly run: (isAlone: boolean) => Promise<void>;
}

/** The trials of a process, one after the other. For a session that suspects nobody it is what `Trials` are for a careful one. */
export class TrialBench implements Pick<Trials, 'verdictOn' | 'together' | 'concerns' | 'run'> {
  #process: string | null = null;
  #last: Promise<unknown> = Promise.resolve();
  #trials = 0;
  /** Until it resolves, nothing else begins. */
  #hold: Promise<void> | null = null;
  #running = 0;
  #whenIdle = () => {};
  /** By epoch, the oldest first. */
  readonly #survived = new Set<number>();

  verdictOn(_delivery: Delivery): null {
    return null;
  }

  together(slots: readonly Slot[]): number {
    return slots.length;
  }

  concerns(_slots: readonly Slot[]): boolean {
    return this.#trials > 0;
  }

  /** Begins once no trial holds it back. */
  async run<T>(_slots: readonly Slot[], work: () => T | Promise<T>): Promise<T> {
    while (this.#hold !== null) await this.#hold;
    return this.during(work);
  }

  /** Nothing holds it back, and a trial waits for it. */
  async during<T>(work: () => T | Promise<T>): Promise<T> {
    this.#running++;
    try {
      return await work();
    } finally {
      if (--this.#running === 0) this.#whenIdle();
    }
  }

  take(trial: Trial): void {
    this.#trials++;
    const ended = () => void this.#trials--;
    this.#last = this.#last.then(() => this.#holdFor(trial)).then(ended, ended);
  }

  async #holdFor({ time, life, patienceMs, run }: Trial): Promise<void> {
    // What the trial before held back has its turn.
    await endOfTick(time);
    let release = () => {};
    this.#hold = new Promise((resolve) => (release = resolve));
    try {
      const idle = new Promise<void>((resolve) => (this.#whenIdle = resolve));
      if (this.#running > 0 && !life.aborted) await within(time, idle, patienceMs);
      // What has just ended may have left a rejection behind.
      await endOfTick(time);
      await run(this.#running === 0);
    } finally {
      this.#hold = null;
      release();
    }
  }

  /** The session has ended, and the process has not. */
  survived(epoch: number): void {
    this.#survived.add(epoch);
    for (const oldest of this.#survived) if (this.#survived.size > maxSurvived) this.#survived.delete(oldest);
  }

  hasSurvived(epoch: number): boolean {
    return this.#survived.has(epoch);
  }

  /** By which a session knows a note of its own process. */
  processName(time: Pick<Time, 'uuid'>): string {
    this.#process ??= time.uuid();
    return this.#process;
  }
}

interface Accusation {
  /** Deaths at which it was on record. */
  readonly deaths: number;
  /** Those of them at which it was tried alone. */
  readonly alone: number;
  /** The epochs of these, as far as they are known. */
  readonly aloneIn: readonly number[];
  /** At the last of these the event loop was blocked. */
  readonly blocked: boolean;
  /** Which have taken their leave since it was last tried. */
  readonly sessions: number;
}

/** What is on record, as JSON. Events are named by fingerprints of their entities, sequences and ids. */
interface Note {
  /** Being processed as suspects. */
  readonly together: readonly string[];
  /** Being tried alone. */
  readonly alone: string | null;
  readonly accused: readonly (readonly [
    event: string,
    deaths: number,
    alone: number,
    blocked: boolean,
    sessions?: number,
    aloneIn?: readonly number[],
  ])[];
  readonly process?: string;
  readonly epoch?: number;
  /** The session has ended as it should. */
  readonly isLeave?: boolean;
  /** Added while the event loop is blocked, by the thread that looks whether it is. */
  readonly blocked?: boolean;
}

const guiltyAfter = 2;
const leaveTimeoutMs = 2_000;
/** Beyond it those with the least evidence become suspects again. */
const maxAccused = 10_000;
/** It is not accused any more after so many sessions in which it was not tried: it may never come again. */
const maxSessions = 10;
const firstPatienceMs = 200;
const shownInStatus = 10;
/** Sessions of a process that it remembers. */
const maxSurvived = 1_000;

/** How long others wait for an event that is tried alone: for one at one death a moment, with each further one four times as long. */
export function patienceMsAfter(deaths: number): number {
  return firstPatienceMs * 4 ** Math.min(Math.max(deaths - 1, 0), 10);
}

export class Trials {
  readonly #options: TrialsOptions;
  readonly #accused: Map<string, Accusation>;
  /** Rejected by this session: copies that come again are as guilty. */
  readonly #guilty = new Map<string, Accusation>();
  readonly #isCareful: boolean;
  readonly #together = new Map<string, Event>();
  #alone: Event | null = null;
  #writing: Promise<void> = Promise.resolve();
  #nextWrite: Promise<void> | null = null;
  #written: string | null = null;
  #willWrite = false;

  constructor(options: TrialsOptions) {
    this.#options = options;
    const { shard, log, bench, time } = options;
    const note = readNote(options.unfinished);
    this.#accused = accusedBy(note, bench, time);
    this.#isCareful = note.isLeave !== true;
    const accused = this.#accused.size;
    if (!this.#isCareful) log.info({ shard, accused }, 'what was on record when a process died and was not settled since is tried alone');
    else {
      const cause = 'the previous session of this shard took no leave: its process died, or could not reach the store';
      log.warn({ shard, cause, accused }, 'what comes again is put on record before it is processed');
    }
  }

  /** Why the event must not be processed, or null. */
  verdictOn(delivery: Delivery): FailureText | null {
    const { alone = 0, blocked = false } = this.#accusationOf(delivery) ?? {};
    if (alone < guiltyAfter) return null;
    const times = `while it was tried alone, ${alone} times`;
    const until = 'until the process was ended or had lost its shard';
    if (blocked) return { reason: 'process_blocked', detail: `the event loop was blocked ${until}, ${times}` };
    return { reason: 'process_killed', detail: `the process died, ${times}` };
  }

  status(): TrialsStatus {
    const running = [...(this.#alone === null ? [] : [this.#alone]), ...this.#together.values()].slice(0, shownInStatus);
    const onTrial = running.map((event) => ({ ...entityFields(event), sequence: event.sequence, alone: event === this.#alone }));
    return { accused: this.#accused.size, on_trial: onTrial };
  }

  /** How many of the slots may be processed in one go: those before the first accused one, which is processed alone. */
  together(slots: readonly Slot[]): number {
    const at = slots.findIndex(({ delivery }) => this.#accusationOf(delivery) !== undefined);
    return at === -1 ? slots.length : Math.max(1, at);
  }

  concerns(slots: readonly Slot[]): boolean {
    return this.#options.bench.concerns(slots) || slots.some((slot) => this.#isSuspect(slot));
  }

  /** Runs a processor over the slots, suspects while they are on record. Rejects with `UnavailableError` once the session has ended. */
  async run<T>(slots: readonly Slot[], work: () => T | Promise<T>): Promise<T> {
    const [first] = slots;
    const accusation = first === undefined ? undefined : this.#accusationOf(first.delivery);
    if (first !== undefined && accusation !== undefined) return this.#runAlone(first.delivery.event, accusation, work);
    const { bench } = this.#options;
    if (!slots.some((slot) => this.#isSuspect(slot))) return bench.run(slots, work);
    return bench.run(slots, async () => {
      const events = new Map(slots.map(({ delivery }) => [nameOf(delivery.event), delivery.event]));
      for (const [name, event] of events) this.#together.set(name, event);
      try {
        return await this.#onRecord(work);
      } finally {
        for (const name of events.keys()) this.#together.delete(name);
        this.#writeSoon();
      }
    });
  }

  /** It was acknowledged or rejected. */
  settled(event: Event): void {
    if (this.#accused.size === 0) return;
    const name = nameOf(event);
    const accusation = this.#accused.get(name);
    if (accusation === undefined) return;
    if (accusation.alone >= guiltyAfter) this.#guilty.set(name, accusation);
    this.#accused.delete(name);
    this.#writeSoon();
  }

  /** Leaves to the next session what it is to know; resolves once the store has it. After the session has ended. */
  async leave(): Promise<void> {
    const { record, shard, epoch, bench, time } = this.#options;
    bench.survived(epoch);
    // Or else it would come after the leave, and in its place.
    await this.#writing.catch(() => undefined);
    const still = new Map<string, Accusation>();
    for (const [name, accusation] of this.#accused) {
      const sessions = accusation.sessions + 1;
      if (sessions < maxSessions) still.set(name, { ...accusation, sessions });
    }
    const process = bench.processName(time);
    await record.noteSession(
      shard,
      epoch,
      still.size === 0 ? null : noteText({ together: [], alone: null, process, epoch, isLeave: true }, still),
    );
  }

  #runAlone<T>(event: Event, accusation: Accusation, work: () => T | Promise<T>): Promise<T> {
    const { shard, bench, life, log, time } = this.#options;
    const { deaths, alone } = accusation;
    const name = nameOf(event);
    const about = { shard, entity_type: event.entityType, entity_id: event.entityId, sequence: event.sequence, message_id: event.id };
    const patienceMs = patienceMsAfter(deaths);
    return new Promise((resolve, reject) => {
      const run = async (isAlone: boolean) => {
        log.info({ ...about, deaths, alone, is_alone: isAlone }, 'an event that was on record when a process died is tried alone');
        if (this.#accused.has(name)) this.#accused.set(name, { ...accusation, sessions: 0 });
        if (isAlone) this.#alone = event;
        else this.#together.set(name, event);
        let begins = () => {};
        const begun = new Promise<void>((begin) => (begins = begin));
        const trial = this.#onRecord(() => {
          begins();
          return work();
        });
        trial.then(resolve, reject);
        let isOver = false;
        const ended = trial.catch(() => undefined).then(() => void (isOver = true));
        await Promise.race([begun, ended]);
        await within(time, ended, patienceMs);
        this.#alone = null;
        if (isOver) this.#together.delete(name);
        else void this.#goOn(name, event, ended);
        // Before anything else runs, or a death that this causes would be one of the event's own.
        await this.#write().catch(() => undefined);
      };
      bench.take({ time, life, patienceMs, run });
    });
  }

  /** Its patience is over, and it is not: it is on record with what follows. */
  async #goOn(name: string, event: Event, ended: Promise<void>): Promise<void> {
    this.#together.set(name, event);
    await this.#options.bench.during(() => ended);
    this.#together.delete(name);
    this.#writeSoon();
  }

  async #onRecord<T>(work: () => T | Promise<T>): Promise<T> {
    const { life, time } = this.#options;
    if (!life.aborted) await this.#write();
    if (life.aborted) throw new UnavailableError('the session has ended');
    const result = await work();
    // What escapes it ends the process within this tick, while it is on record and before anything of it is committed.
    await endOfTick(time);
    return result;
  }

  /** What has ended need not leave the record at once: the next trial, which follows at once, writes it anyway. */
  #writeSoon(): void {
    const { life, time } = this.#options;
    if (this.#willWrite) return;
    this.#willWrite = true;
    time.afterTick(() => {
      this.#willWrite = false;
      if (!life.aborted && this.#text() !== this.#written) this.#write().catch(() => undefined);
    });
  }

  /** Resolves when what is known now is on record. All who ask in one moment share a write. */
  #write(): Promise<void> {
    this.#nextWrite ??= this.#writing
      .catch(() => undefined)
      .then(() => {
        this.#nextWrite = null;
        this.#writing = this.#writeNow();
        return this.#writing;
      });
    return this.#nextWrite;
  }

  async #writeNow(): Promise<void> {
    const { record, shard, epoch, life, fail, time } = this.#options;
    if (life.aborted) throw new UnavailableError('the session has ended');
    const text = this.#text();
    this.#written = text;
    try {
      await patiently(() => record.noteSession(shard, epoch, text), { time, signal: life });
    } catch (error) {
      if (!(error instanceof UnavailableError)) fail(error);
      throw error;
    }
  }

  #text(): string {
    const { bench, time, epoch } = this.#options;
    const alone = this.#alone === null ? null : nameOf(this.#alone);
    return noteText({ together: [...this.#together.keys()], alone, process: bench.processName(time), epoch }, this.#accused);
  }

  #isSuspect(slot: Slot): boolean {
    const { action, delivery } = slot;
    return action === 'apply' && delivery.mayRepeat === true && (this.#isCareful || this.#accusationOf(delivery) !== undefined);
  }

  #accusationOf({ mayRepeat, event }: Delivery): Accusation | undefined {
    if (!mayRepeat || this.#accused.size + this.#guilty.size === 0) return undefined;
    const name = nameOf(event);
    return this.#accused.get(name) ?? this.#guilty.get(name);
  }
}

/** The note of a session whose event loop is blocked. */
export function asBlocked(note: string): string {
  return JSON.stringify({ ...readNote(note), blocked: true } satisfies Note);
}

/** Of a session that ended before it had its epoch. It processed nothing; a note of the session before it stays. */
export async function leaveUnused(result: EpochResult, options: Pick<TrialsOptions, 'record' | 'shard' | 'time'>): Promise<void> {
  if (result.status === 'ok' && result.unfinished === null) await takeLeave({ epoch: result.epoch, trials: null }, options);
}

/** Of a session that has ended as it should. If the store does not take it in time, the next one is careful, and nothing worse. */
export async function takeLeave(
  { epoch, trials }: { readonly epoch: number | null; readonly trials: Trials | null },
  { record, shard, time }: Pick<TrialsOptions, 'record' | 'shard' | 'time'>,
): Promise<void> {
  if (epoch === null) return;
  const taken = trials === null ? record.noteSession(shard, epoch, null) : trials.leave();
  await within(
    time,
    taken.catch(() => undefined),
    leaveTimeoutMs,
  );
}

function accusedBy(note: Note, bench: TrialBench, time: Time): Map<string, Accusation> {
  const { together, alone, accused, blocked = false, isLeave, process, epoch } = note;
  const known = new Map<string, Accusation>();
  for (const [event, deaths, times, wasBlocked, sessions = 0, epochs = []] of accused) {
    // In the others this very process was cut off and lived on: their leaves came too late.
    const aloneIn = epochs.filter((one) => !bench.hasSurvived(one));
    const survived = epochs.length - aloneIn.length;
    known.set(event, { deaths: deaths - survived, alone: times - survived, aloneIn, blocked: wasBlocked, sessions });
  }
  // Of this very process, which lives: the store did not take its leave.
  if (isLeave || process === bench.processName(time)) return known;
  for (const event of alone === null ? together : [...together, alone]) {
    const before = known.get(event) ?? { deaths: 0, alone: 0, aloneIn: [], blocked: false };
    const after = { ...before, deaths: before.deaths + 1, sessions: 0 };
    // An earlier version has both in one note.
    const wasAlone = event === alone && together.length === 0;
    const aloneIn = epoch === undefined ? before.aloneIn : [...before.aloneIn, epoch];
    known.set(event, wasAlone ? { ...after, alone: before.alone + 1, aloneIn, blocked } : after);
  }
  return known;
}

function noteText(note: Omit<Note, 'accused'>, accused: ReadonlyMap<string, Accusation>): string {
  const kept = [...accused];
  if (kept.length > maxAccused) kept.sort(([, one], [, other]) => other.alone - one.alone || other.deaths - one.deaths).length = maxAccused;
  return JSON.stringify({
    ...note,
    accused: kept.map(([event, { deaths, alone, aloneIn, blocked, sessions }]) => [event, deaths, alone, blocked, sessions, aloneIn]),
  } satisfies Note);
}

/** Empty if the session wrote none, or one of another version. */
function readNote(text: string): Note {
  try {
    const { together, alone, accused, ...rest } = JSON.parse(text) as Note;
    return { ...rest, together: [...together], alone: alone ?? null, accused: [...accused] };
  } catch {
    return { together: [], alone: null, accused: [] };
  }
}

/** With its id: another event that claims the same sequence is innocent. */
function nameOf(event: Event): string {
  return fingerprint(Buffer.from(`${entityKey(event)} ${event.sequence ?? ''} ${event.id}`));
}
