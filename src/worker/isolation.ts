/**
 * Runs processors in a thread of their own, which may be ended (PROCESSOR_ISOLATION=thread). What a processor does to its process it
 * does to that thread: exits, needs more memory than there is, leaves an error uncaught, or blocks it until it is ended. A new thread is
 * started, and what was in the old one is tried again, one event at a time. An event fails for good when a thread ends in which nothing
 * else ever was: what an earlier one left behind there, such as a timer, is not its fault.
 *
 *   many in the thread ──it ends──▶ each alone, its first event only ──it ends again──▶ `process_killed` or `process_blocked`
 *
 * An event that takes long does not keep the others waiting: after a moment, which grows with each end, they join it. The module is
 * loaded in both threads; states and events are copied there and back. A crash of the engine itself still ends the process.
 */
import { getHeapStatistics } from 'node:v8';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { messageOf } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { FailureText } from '../ordering/facts.ts';
import { endOfTick, systemTime, type Time, type Timer } from '../time.ts';
import { countTurns, whenBlocked } from './block-watch.ts';
import { loadProcessors, type ProcessorChoice } from './operator-modules.ts';
import { type CommitEffect, type Prepared, prepare, type ProcessingOptions, type RetryLimits } from './processing.ts';
import type { CachedState } from './memory.ts';
import { patienceMsAfter } from './trials.ts';

export interface IsolationOptions {
  readonly choice: ProcessorChoice;
  /** The thread is ended when it has not turned for so long. */
  readonly blockedAfterMs: number;
  readonly log: Pick<Log, 'warn'>;
  readonly time: Time;
  /** The module that this process has loaded does not load in a thread. */
  readonly fail: (error: unknown) => void;
}

/** What is asked of the thread. */
interface Task {
  readonly id: number;
  readonly effect: CommitEffect;
  readonly token: string;
  readonly before: CachedState;
  readonly maxStateBytes: number;
  readonly eventLog: boolean;
  readonly limits: RetryLimits;
  readonly headers: readonly (readonly [tag: number, headers: Readonly<Record<string, unknown>>])[];
}

type Answer =
  | { readonly kind: 'begun' }
  | { readonly kind: 'attempted'; readonly id: number }
  | { readonly kind: 'retried'; readonly id: number; readonly tag: number; readonly attempt: number; readonly cause: string }
  /** Null: it was told to stop. */
  | { readonly kind: 'prepared'; readonly id: number; readonly prepared: Omit<Prepared, 'effect'> | null }
  | { readonly kind: 'failed'; readonly id: number; readonly cause: string };

interface Request {
  task: Task;
  readonly options: ProcessingOptions;
  readonly resolve: (prepared: Prepared | null) => void;
  readonly reject: (error: Error) => void;
  /** Ends of the thread while it was in it. */
  ends: number;
}

interface Served {
  readonly kind: 'inorder processors';
  readonly choice: ProcessorChoice;
  readonly blockedAfterMs: number;
  /** What the thread tells although it ends in this moment: how often it has turned, and whether it has begun. */
  readonly shared: Int32Array;
}

/** The place in `shared` beside that of the turns. */
const hasBegun = 1;

export class Isolation {
  readonly #options: IsolationOptions;
  #thread: Worker | null = null;
  readonly #shared = new Int32Array(new SharedArrayBuffer(8));
  #looking: Timer | null = null;
  /** Requests that the thread was given. */
  #given = 0;
  #endedBecause: string | null = null;
  #wasBlocked = false;
  #stopped = false;
  #lastId = 0;
  /** In the thread. */
  readonly #inside = new Map<number, Request>();
  /** To be tried alone. */
  readonly #accused: Request[] = [];
  #alone: Request | null = null;
  #waiting: Request[] = [];

  constructor(options: IsolationOptions) {
    this.#options = options;
  }

  /** As `prepare` of processing.ts. */
  prepare(
    effect: CommitEffect,
    token: string,
    { version, holes, text }: CachedState,
    options: ProcessingOptions,
  ): Promise<Prepared | null> {
    const { maxStateBytes, eventLog, handlerRun, messages } = options;
    const headers = effect.slots.map(({ delivery: { tag } }) => [tag, messages.get(tag)?.headers ?? {}] as const);
    const before = { version, holes, text, parsed: null };
    const task = { id: ++this.#lastId, effect, token, before, maxStateBytes, eventLog, limits: handlerRun.limits, headers };
    return new Promise((resolve, reject) => {
      const request: Request = { task, options, resolve, reject, ends: 0 };
      handlerRun.life.addEventListener('abort', () => this.#abandon(request), { once: true });
      this.#waiting.push(request);
      this.#next();
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#looking?.cancel();
    await this.#thread?.terminate();
  }

  /** The accused one by one; the others when there are none. */
  #next(): void {
    if (this.#stopped || this.#alone !== null) return;
    const accused = this.#accused.shift();
    if (accused === undefined) {
      for (const request of this.#waiting.splice(0)) this.#send(request);
      return;
    }
    this.#alone = accused;
    this.#send(accused);
    this.#waitForAlone();
  }

  /** From when the thread has begun. */
  #waitForAlone(): void {
    const accused = this.#alone;
    if (accused === null || this.#shared[hasBegun] === 0) return;
    this.#options.time.after(patienceMsAfter(accused.ends), () => this.#isNotAlone(accused), { unref: true });
  }

  #isNotAlone(request: Request): void {
    if (this.#alone !== request) return;
    this.#alone = null;
    this.#next();
  }

  #send(request: Request): void {
    const { task } = request;
    this.#thread ??= this.#begin();
    this.#given++;
    this.#inside.set(task.id, request);
    this.#thread.postMessage(task);
  }

  #abandon(request: Request): void {
    request.resolve(null);
    this.#inside.delete(request.task.id);
    this.#waiting = this.#waiting.filter((one) => one !== request);
    this.#thread?.postMessage(request.task.id);
    this.#isNotAlone(request);
  }

  #begin(): Worker {
    const { choice, blockedAfterMs } = this.#options;
    const served: Served = { kind: 'inorder processors', choice, blockedAfterMs, shared: this.#shared };
    const maxOldGenerationSizeMb = Math.floor(getHeapStatistics().heap_size_limit / 2 ** 20);
    const thread = new Worker(new URL(import.meta.url), { workerData: served, resourceLimits: { maxOldGenerationSizeMb } });
    thread.on('message', (answer: Answer) => this.#answered(answer));
    thread.on('error', (error) => (this.#endedBecause = messageOf(error)));
    thread.on('exit', (code) => this.#ended(code));
    this.#shared[hasBegun] = 0;
    this.#given = 0;
    this.#looking = whenBlocked(this.#options.time, this.#shared, blockedAfterMs, () => this.#endBlocked(thread), this.#hasWork);
    return thread;
  }

  readonly #hasWork = (): boolean => this.#shared[hasBegun] === 1 && this.#inside.size > 0;

  #endBlocked(thread: Worker): void {
    this.#wasBlocked = true;
    void thread.terminate();
  }

  #answered(answer: Answer): void {
    if (answer.kind === 'begun') return this.#waitForAlone();
    const request = this.#inside.get(answer.id);
    if (request === undefined) return;
    const { effect } = request.task;
    const { handlerRun, report } = request.options;
    if (answer.kind === 'attempted') return handlerRun.onAttempt();
    if (answer.kind === 'retried') {
      const slot = effect.slots.find(({ delivery }) => delivery.tag === answer.tag);
      if (slot !== undefined) report.retried(slot.delivery, answer.attempt, answer.cause);
      return;
    }
    this.#inside.delete(answer.id);
    if (answer.kind === 'failed') request.reject(new Error(answer.cause));
    else request.resolve(answer.prepared === null ? null : { ...answer.prepared, effect });
    this.#isNotAlone(request);
  }

  #ended(code: number): void {
    const { log, fail } = this.#options;
    const [because, blocked, inside] = [this.#endedBecause ?? `it exited with ${code}`, this.#wasBlocked, [...this.#inside.values()]];
    this.#looking?.cancel();
    this.#thread = null;
    this.#endedBecause = null;
    this.#wasBlocked = false;
    this.#inside.clear();
    if (this.#stopped) return;
    if (this.#shared[hasBegun] === 0) return fail(new Error(`the processors do not load in a thread: ${because}`));
    const cause = blocked ? `its event loop was blocked for ${this.#options.blockedAfterMs} ms` : because;
    const events = inside
      .map(({ task }) => task.effect.slots[0]!.delivery.event)
      .map(({ entityId, sequence }) => `${entityId}/${sequence}`);
    log.warn(
      { cause, events: events.slice(0, 10), count: inside.length },
      'the thread of the processors has ended; what was in it is tried again',
    );
    const [only] = inside;
    if (this.#given === 1 && only?.task.effect.slots.length === 1) this.#fail(only, blocked, cause);
    else for (const request of inside) this.#accuse(request);
    this.#alone = null;
    this.#next();
  }

  #fail({ task, resolve }: Request, blocked: boolean, cause: string): void {
    const reason = blocked ? 'process_blocked' : 'process_killed';
    const failure: FailureText = { reason, detail: `the thread of the processors ended while it was processed alone: ${cause}` };
    resolve({ effect: task.effect, commit: null, done: 0, failure, after: task.before });
  }

  /** Its first event alone: the rest is asked for again. */
  #accuse(request: Request): void {
    const { task } = request;
    request.ends++;
    request.task = { ...task, id: ++this.#lastId, effect: { ...task.effect, slots: task.effect.slots.slice(0, 1) } };
    // What was alone is the first in the next thread.
    if (request === this.#alone) this.#accused.unshift(request);
    else this.#accused.push(request);
  }
}

/** The thread. */
async function serve({ choice, blockedAfterMs, shared }: Served): Promise<void> {
  const say = (answer: Answer) => parentPort?.postMessage(answer);
  const processors = await loadProcessors(choice);
  const lives = new Map<number, AbortController>();
  countTurns(systemTime, shared, blockedAfterMs);
  parentPort?.on('message', async (asked: Task | number) => {
    if (typeof asked === 'number') return lives.get(asked)?.abort();
    const { id, effect, token, before, maxStateBytes, eventLog, limits, headers } = asked;
    const life = new AbortController();
    lives.set(id, life);
    try {
      const done = await prepare(effect, token, before, {
        processors,
        maxStateBytes,
        eventLog,
        handlerRun: { limits, life: life.signal, time: systemTime, inWork: new Set(), onAttempt: () => say({ kind: 'attempted', id }) },
        report: {
          retried: ({ tag }, attempt, cause) => say({ kind: 'retried', id, tag, attempt, cause }),
          within: (_tag, work) => work(),
        },
        messages: new Map(headers.map(([tag, its]) => [tag, { headers: its }])),
        trials: null,
        isolation: null,
      });
      // What escapes a processor ends the thread within this tick, before anything of it is answered.
      await endOfTick(systemTime);
      say({
        kind: 'prepared',
        id,
        prepared: done === null ? null : ({ ...done, effect: undefined, after: { ...done.after, parsed: null } } as never),
      });
    } catch (error) {
      say({ kind: 'failed', id, cause: messageOf(error) });
    } finally {
      lives.delete(id);
    }
  });
  shared[hasBegun] = 1;
  say({ kind: 'begun' });
}

// Not awaited: a processor's module may import this one again, by the package's name, and would wait for it.
if (!isMainThread && (workerData as Served | null)?.kind === 'inorder processors') void serve(workerData as Served);
