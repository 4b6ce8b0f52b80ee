/**
 * Changes of dead letters that somebody began in a browser. Each is planned first, which changes nothing, and then carried
 * out if it is confirmed: exactly that plan, and once. They go on without the browser, which asks how far they are.
 *
 *   planning → planned → running → settling → done
 *
 * From each of the first four a change may come to `failed` (with the error) or `stopped` (somebody stopped it, or the
 * console was closed). Bounded: the oldest that are not under way are forgotten.
 */
import { messageOf } from '../errors.ts';
import type { Time } from '../time.ts';
import { type ChangeOutcome, type ChangePlan, lettersOf, outcomeFields, planFields } from './change-work.ts';
import type { LetterSearch } from './letter-search.ts';
import type { Change as ChangeAnswer } from './page/answers.d.ts';

export interface ChangeRequest {
  readonly action: 'replay' | 'discard';
  readonly search: LetterSearch;
  /** Replay only entities whose missing event has arrived since. */
  readonly readyOnly: boolean;
  /** Discard so that those behind can go on. */
  readonly skipSequence: boolean;
  /** Why, for the audit trail; of a discard not empty. */
  readonly reason: string;
  /** For the audit trail. */
  readonly who: string;
}

/** What carries changes out. */
export interface ChangeWork {
  plan(request: ChangeRequest, progress: (read: number) => void, signal: AbortSignal): Promise<ChangePlan>;
  /** Returns what waits for the workers' verdict, or says it at once. */
  carryOut(
    plan: ChangePlan,
    request: ChangeRequest,
    progress: (done: number) => void,
    signal: AbortSignal,
  ): Promise<() => Promise<ChangeOutcome>>;
}

const maxChanges = 50;
/** Planned and not confirmed for so long, it is out of date. */
const planLifeMs = 10 * 60_000;

export class Changes {
  readonly #work: ChangeWork;
  readonly #time: Time;
  /** The oldest first. */
  readonly #changes = new Map<string, Change>();

  constructor(work: ChangeWork, time: Time) {
    this.#work = work;
    this.#time = time;
  }

  begin(request: ChangeRequest): Change {
    const change = new Change(request, this.#work, this.#time);
    this.#changes.set(change.id, change);
    const idle = [...this.#changes.values()].filter(({ isUnderWay }) => !isUnderWay);
    for (const { id } of idle.slice(0, Math.max(0, this.#changes.size - maxChanges))) this.#changes.delete(id);
    return change;
  }

  find(id: string): Change | null {
    return this.#changes.get(id) ?? null;
  }

  async close(): Promise<void> {
    for (const change of this.#changes.values()) change.stop();
    await Promise.all([...this.#changes.values()].map(({ settled }) => settled));
  }
}

export class Change {
  readonly id: string;
  readonly #request: ChangeRequest;
  readonly #work: ChangeWork;
  readonly #time: Time;
  readonly #stopping = new AbortController();
  #state: ChangeAnswer['state'] = 'planning';
  #read = 0;
  #done = 0;
  #plan: ChangePlan | null = null;
  #plannedMs = 0;
  #outcome: ChangeOutcome | null = null;
  #error: string | null = null;
  #settled: Promise<void>;

  constructor(request: ChangeRequest, work: ChangeWork, time: Time) {
    this.#request = request;
    this.#work = work;
    this.#time = time;
    this.id = time.uuid();
    this.#settled = this.#guarded(() => this.#makePlan());
  }

  get isUnderWay(): boolean {
    return this.#state === 'planning' || this.#state === 'running' || this.#state === 'settling';
  }

  /** Settles when nothing is under way. */
  get settled(): Promise<void> {
    return this.#settled;
  }

  /** False when it is not planned, not any more, or its plan is too old. */
  confirm(): boolean {
    const plan = this.#plan;
    if (this.#state !== 'planned' || plan === null || this.#time.nowMs() - this.#plannedMs > planLifeMs) return false;
    this.#state = 'running';
    this.#settled = this.#guarded(() => this.#carryOut(plan));
    return true;
  }

  /** Ends it after what is under way; what was done stays done. */
  stop(): void {
    this.#stopping.abort();
    if (this.#state === 'planned') this.#state = 'stopped';
  }

  view(): ChangeAnswer {
    const { action, reason, skipSequence } = this.#request;
    const plan = this.#plan;
    return {
      id: this.id,
      action,
      state: this.#state,
      why: reason,
      skip_sequence: skipSequence,
      read: this.#read,
      done: this.#done,
      total: plan === null ? null : lettersOf(plan),
      plan: plan === null ? null : planFields(plan),
      outcome: this.#outcome === null ? null : outcomeFields(this.#outcome),
      error: this.#error,
    };
  }

  async #makePlan(): Promise<void> {
    this.#plan = await this.#work.plan(this.#request, (read) => void (this.#read = read), this.#stopping.signal);
    this.#plannedMs = this.#time.nowMs();
    this.#state = this.#stopping.signal.aborted ? 'stopped' : 'planned';
  }

  async #carryOut(plan: ChangePlan): Promise<void> {
    const settle = await this.#work.carryOut(plan, this.#request, (done) => void (this.#done = done), this.#stopping.signal);
    this.#state = 'settling';
    this.#outcome = await settle();
    this.#state = this.#stopping.signal.aborted ? 'stopped' : 'done';
  }

  async #guarded(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.#state = 'failed';
      this.#error = messageOf(error);
    }
  }
}
