/**
 * Changes of dead letters that were started in a browser. Each is planned first, which changes nothing; when it is
 * confirmed, exactly that plan is carried out, once. They continue without the browser, which polls their progress.
 *
 *   planning → planned → running → settling → done
 *
 * Each of the first four states may end in `failed` (with the error) or `stopped` (by a user, or when the
 * console closes). Bounded: the oldest changes that are not running are forgotten.
 */
import { messageOf } from '../errors.ts';
import type { Time } from '../time.ts';
import { type ChangeOutcome, type ChangePlan, lettersOf, outcomeFields, planFields } from './change-work.ts';
import type { LetterSearch } from './letter-json.ts';
import type { Change as ChangeAnswer } from './page/answers.d.ts';

export interface ChangeRequest {
  readonly action: 'replay' | 'discard';
  readonly search: LetterSearch;
  /** Replay only entities whose missing event has arrived. */
  readonly readyOnly: boolean;
  /** Skip the discarded sequences, so that the events behind them can be applied. */
  readonly skipSequence: boolean;
  /** Why, for the audit trail; required for a discard. */
  readonly reason: string;
  /** Who, for the audit trail. */
  readonly who: string;
}

/** Carries out changes. */
export interface ChangeWork {
  plan(request: ChangeRequest, progress: (read: number) => void, signal: AbortSignal): Promise<ChangePlan>;
  /** Returns the outcome, or a function that waits for the workers' decisions. */
  carryOut(
    plan: ChangePlan,
    request: ChangeRequest,
    progress: (done: number) => void,
    signal: AbortSignal,
  ): Promise<() => Promise<ChangeOutcome>>;
}

const maxChanges = 50;
/** A plan that is not confirmed within this time is outdated. */
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

  /** Settles when no change is running. */
  get settled(): Promise<void> {
    return this.#settled;
  }

  /** False unless it is in the state `planned` and the plan is not outdated. */
  confirm(): boolean {
    const plan = this.#plan;
    if (this.#state !== 'planned' || plan === null || this.#time.nowMs() - this.#plannedMs > planLifeMs) return false;
    this.#state = 'running';
    this.#settled = this.#guarded(() => this.#carryOut(plan));
    return true;
  }

  /** Stops it after the letters in progress; what was done is not undone. */
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
