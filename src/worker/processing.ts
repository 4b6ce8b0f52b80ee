/**
 * Turns the sequencer's decision into a commit that can be sent: runs the processors over the slots and folds
 * the states. An aggregate's rules are checked before its handlers run, so a refused event has no side effect.
 *
 * With aggregates alone all slots fold into one commit, synchronously. With a handler each commit carries
 * one event: a crash then repeats the side effects of one event, not of a whole run. A handler runs until it
 * succeeds, fails for good, or the shard is lost:
 *
 *   attempt ──ok──▶ result
 *      │ throws, rejects, or HANDLER_TIMEOUT_MS is over
 *      ├─ PermanentError, EventError ───▶ failed            (an EventError may say `refused` or `invalid_data`)
 *      ├─ UnavailableError ─▶ back off ─▶ attempt   (without end: what it calls is unavailable, the event is not at fault)
 *      ├─ attempts left ────▶ back off ─▶ attempt
 *      └─ RETRY_MAX_ATTEMPTS made ──────▶ failed
 *
 * An attempt that timed out may still be running when the next one begins: its signal is aborted, and both have the
 * same idempotency key.
 */
import type { Handler } from '../aggregates/definition.ts';
import { evolveEvent } from '../aggregates/evolve.ts';
import type { ProcessorSet, Processors } from '../aggregates/processors.ts';
import { codeOf, describeThrown, reasonOf } from '../aggregates/thrown.ts';
import { UnavailableError } from '../errors.ts';
import { appliedText, type Event, type RawMessage } from '../events/event.ts';
import type { Effect, FailureText, Slot } from '../ordering/facts.ts';
import { absorbedText, type Commit, type CommitEvent } from '../ordering/entity.ts';
import { type BackOffLimits, backOffMs, endOfTick, sleep, type Time } from '../time.ts';
import type { DeliveryReport } from './delivery-report.ts';
import type { CachedState } from './memory.ts';
import type { Isolation } from './isolation.ts';
import type { Trials } from './trials.ts';

export type CommitEffect = Extract<Effect, { kind: 'commit' }>;

export interface Prepared {
  readonly effect: CommitEffect;
  /** Null when nothing can be committed: the first slot failed. */
  readonly commit: Commit | null;
  /** The number of slots in the commit. */
  readonly done: number;
  readonly failure: FailureText | null;
  /** The entity's state once the commit has succeeded. */
  readonly after: CachedState;
}

export interface ProcessingOptions {
  readonly processors: Processors;
  readonly maxStateBytes: number;
  /** Whether applied events are kept in the entity's log. */
  readonly eventLog: boolean;
  /** What a handler needs apart from its event. */
  readonly handlerRun: Omit<HandlerRun, 'headers' | 'onRetry' | 'guard'>;
  readonly report: Pick<DeliveryReport, 'retried' | 'within'>;
  /** Where the processors run; null: here. */
  readonly isolation: Pick<Isolation, 'prepare'> | null;
  /** Null: nobody's death is looked into here. */
  readonly trials: Pick<Trials, 'verdictOn' | 'together' | 'concerns' | 'run'> | null;
  /** Whose headers a handler sees, by delivery tag. */
  readonly messages: ReadonlyMap<number, Pick<RawMessage, 'headers'>>;
}

type Folded = { readonly ok: true; readonly state: unknown } | { readonly ok: false; readonly failure: FailureText };

/**
 * `before` is the entity's state at the version that the commit expects. Resolves to null when the shard was
 * lost while handlers ran.
 */
export function prepare(
  effect: CommitEffect,
  token: string,
  before: CachedState,
  options: ProcessingOptions,
): Prepared | Promise<Prepared | null> {
  const processors = options.processors.forType(effect.entity.entityType);
  if (processors === null) return prepareWithout(effect, token, before);
  const trials = options.trials?.concerns(effect.slots) ? options.trials : null;
  if (options.isolation !== null) {
    const isolated = options.isolation.prepare.bind(options.isolation, effect, token, before, options);
    return options.trials === null ? isolated() : options.trials.run(effect.slots, isolated);
  }
  const newFold = () => new Fold(effect, token, before, processors, options);
  if (processors.handlers.length > 0) return foldWithHandlers(newFold, processors, effect.slots, options);
  return trials === null ? foldAll(newFold()) : trials.run(effect.slots, () => foldAll(newFold()));
}

/** No processor for this type: slots that need none pass, the first that needs one fails. */
function prepareWithout(effect: CommitEffect, token: string, before: CachedState): Prepared {
  const fold = new Fold(
    effect,
    token,
    before,
    { aggregate: null, handlers: [] },
    { maxStateBytes: Number.POSITIVE_INFINITY, eventLog: false },
  );
  for (const slot of effect.slots) {
    if (slot.action === 'apply') {
      const detail = `no processor is configured for entities of type ${JSON.stringify(effect.entity.entityType)}`;
      return fold.finish({ reason: 'no_processor', detail });
    }
    fold.add(slot, null);
  }
  return fold.finish(null);
}

function foldAll(fold: Fold): Prepared {
  for (const slot of fold.slots) {
    const failure = fold.evolve(slot);
    if (failure !== null) return fold.finish(failure);
    fold.add(slot, null);
  }
  return fold.finish(null);
}

async function foldWithHandlers(
  newFold: () => Fold,
  processors: ProcessorSet,
  slots: readonly Slot[],
  options: ProcessingOptions,
): Promise<Prepared | null> {
  const { trials } = options;
  let fold: Fold | null = null;
  for (const slot of slots) {
    // The aggregate reads the state, computes the next one and writes it: its process may end in each of them.
    const evolve = () => {
      fold ??= newFold();
      return { fold, failure: fold.evolve(slot) ?? (slot.action === 'apply' ? fold.unstorable() : null) };
    };
    const evolved = trials?.concerns([slot]) ? await trials.run([slot], evolve) : evolve();
    fold = evolved.fold;
    if (evolved.failure !== null) return fold.finish(evolved.failure);
    if (slot.action !== 'apply') {
      fold.add(slot, null);
      continue;
    }
    const { tag, event } = slot.delivery;
    const onRetry = (attempt: number, cause: string) => options.report.retried(slot.delivery, attempt, cause);
    const guard: HandlerRun['guard'] = trials === null ? (attempt) => attempt() : (attempt) => trials.run([slot], attempt);
    const run = { ...options.handlerRun, headers: options.messages.get(tag)?.headers ?? {}, onRetry, guard };
    const values: unknown[] = [];
    for (const handler of processors.handlers) {
      const outcome = await options.report.within(tag, () => runHandler(handler, event, run));
      if (outcome.kind === 'abandoned') return null;
      if (outcome.kind === 'failed') return fold.finish(outcome.failure);
      values.push(outcome.value);
    }
    const result = resultText(values.length === 1 ? values[0] : values, event, options.maxStateBytes);
    if (!result.ok) return fold.finish({ reason: 'handler_failed', detail: result.detail });
    fold.add(slot, result.text);
    return fold.finish(null);
  }
  return (fold ?? newFold()).finish(null);
}

function resultText(
  value: unknown,
  event: Event,
  maxBytes: number,
): { readonly ok: true; readonly text: string | null } | { readonly ok: false; readonly detail: string } {
  try {
    const text = JSON.stringify(value) ?? null;
    const bytes = text === null ? 0 : Buffer.byteLength(text);
    if (bytes <= maxBytes) return { ok: true, text };
    return { ok: false, detail: `what the handler returned has ${bytes} bytes, MAX_STATE_BYTES allows ${maxBytes}: return less` };
  } catch (error) {
    return { ok: false, detail: `what the handler returned is not JSON: ${describeThrown(error, event).detail}` };
  }
}

/** The fold over the slots of one commit. */
class Fold {
  readonly #effect: CommitEffect;
  readonly #token: string;
  readonly #processors: ProcessorSet;
  readonly #maxStateBytes: number;
  readonly #eventLog: boolean;
  readonly #before: CachedState;
  readonly #events: CommitEvent[] = [];
  /** Null until the first event of the entity is applied. */
  #state: unknown;
  #pending: unknown;
  #changed = false;

  constructor(
    effect: CommitEffect,
    token: string,
    before: CachedState,
    processors: ProcessorSet,
    options: Pick<ProcessingOptions, 'maxStateBytes' | 'eventLog'>,
  ) {
    this.#effect = effect;
    this.#token = token;
    this.#before = before;
    this.#processors = processors;
    this.#maxStateBytes = options.maxStateBytes;
    this.#eventLog = options.eventLog;
    this.#state = before.parsed === null ? this.#parse(before.text) : before.parsed.state;
    this.#pending = this.#state;
  }

  get slots(): readonly Slot[] {
    return this.#effect.slots;
  }

  /** Computes the state after the slot; `add` adopts it. */
  evolve(slot: Slot): FailureText | null {
    const aggregate = this.#processors.aggregate;
    this.#pending = this.#state;
    if (slot.action !== 'apply' || aggregate === null) return null;
    const next: Folded = foldOne(this.#processors, this.#state, slot.delivery.event, this.#effect.adopts);
    if (!next.ok) return next.failure;
    this.#pending = next.state;
    return null;
  }

  /** Why the state that `evolve` computed cannot be stored, or null. */
  unstorable(): FailureText | null {
    const written = this.#write(this.#pending);
    return written.ok ? null : written.failure;
  }

  add(slot: Slot, result: string | null): void {
    const { event } = slot.delivery;
    if (this.#pending !== this.#state || slot.action === 'apply') this.#changed = true;
    this.#state = this.#pending;
    const consumed = slot.action !== 'apply';
    const { id, payloadHash } = event;
    const log = this.#eventLog && !consumed ? appliedText(event, slot.sequence) : undefined;
    const remembered = slot.appliedAs === undefined ? result : absorbedText({ id, sequence: slot.appliedAs });
    this.#events.push({ id, recordId: recordsId(event), sequence: slot.sequence, payloadHash, result: remembered, consumed, log });
  }

  finish(failure: FailureText | null): Prepared {
    // `evolve` may have changed the state in place before it refused the event, or before the handler failed.
    if (failure !== null && this.#processors.aggregate !== null) return this.#foldAgain(failure);
    if (!this.#changed || this.#processors.aggregate === null) return this.#prepared(this.#events, this.#before.text, this.#state, failure);
    const written = this.#write(this.#state);
    return written.ok ? this.#prepared(this.#events, written.text, this.#state, failure) : this.#foldAgain(null);
  }

  /**
   * Rare: folds the added events again from the stored state, one by one. This finds the event at which the state outgrew its limit
   * or became unwritable, and discards the effects of events that were not added.
   */
  #foldAgain(failure: FailureText | null): Prepared {
    let text = this.#before.text;
    let state: unknown = this.#parse(text);
    for (const [index, slot] of this.slots.slice(0, this.#events.length).entries()) {
      if (slot.action !== 'apply') continue;
      const next = foldOne(this.#processors, state, slot.delivery.event, this.#effect.adopts);
      if (!next.ok) return this.#prepared(this.#events.slice(0, index), text, state, next.failure);
      const written = this.#write(next.state);
      if (!written.ok) return this.#prepared(this.#events.slice(0, index), text, state, written.failure);
      state = next.state;
      text = written.text;
    }
    return this.#prepared(this.#events, text, state, failure);
  }

  #prepared(events: readonly CommitEvent[], text: string | null, state: unknown, failure: FailureText | null): Prepared {
    const effect = this.#effect;
    const last = effect.slots[events.length - 1];
    if (last === undefined) return { effect, commit: null, done: 0, failure, after: this.#before };
    const { entityType, entityId } = effect.entity;
    const commit: Commit = {
      entityType,
      entityId,
      token: this.#token,
      expectedVersion: effect.expectedVersion,
      expectedHoles: effect.expectedHoles,
      newVersion: last.versionAfter,
      newHoles: last.holesAfter,
      state: text === this.#before.text ? null : text,
      events,
    };
    const after = { version: last.versionAfter, holes: last.holesAfter, text, parsed: { state } };
    return { effect, commit, done: events.length, failure, after };
  }

  #parse(text: string | null): unknown {
    return text === null || this.#processors.aggregate === null ? null : this.#processors.aggregate.deserialize(text);
  }

  #write(state: unknown): { readonly ok: true; readonly text: string | null } | { readonly ok: false; readonly failure: FailureText } {
    if (state === null || this.#processors.aggregate === null) return { ok: true, text: null };
    try {
      const text = this.#processors.aggregate.serialize(state);
      const bytes = Buffer.byteLength(text);
      if (bytes <= this.#maxStateBytes) return { ok: true, text };
      return {
        ok: false,
        failure: { reason: 'state_too_large', detail: `the state would have ${bytes} bytes, the limit is ${this.#maxStateBytes}` },
      };
    } catch (error) {
      const { detail, stack } = describeThrown(error, ...this.slots.map(({ delivery }) => delivery.event));
      return { ok: false, failure: { reason: 'handler_failed', detail: `the state cannot be written: ${detail}`, stack } };
    }
  }
}

/** An event without its own id is identified by its sequence, if it has one. */
export function recordsId({ idDerived, sequence }: Event): boolean {
  return !idDerived || sequence === null;
}

function foldOne(processors: ProcessorSet, state: unknown, event: Event, adopts: boolean): Folded {
  if (processors.aggregate === null) return { ok: true, state };
  const next = evolveEvent(processors.aggregate, state, event, { adopts });
  return next.ok ? next : { ok: false, failure: next };
}

export interface RetryLimits extends BackOffLimits {
  readonly maxAttempts: number;
  readonly timeoutMs: number;
}

export interface HandlerRun {
  readonly limits: RetryLimits;
  readonly headers: Readonly<Record<string, unknown>>;
  /** Aborted when the shard is lost or stops: the outcome no longer matters. */
  readonly life: AbortSignal;
  readonly time: Time;
  /** Whose attempts are running: an error that escapes them is logged with these. */
  readonly inWork: Set<Event>;
  /** Called when an attempt begins. */
  readonly onAttempt: () => void;
  readonly onRetry: (attempt: number, cause: string) => void;
  /** Runs one attempt. */
  readonly guard: <T>(attempt: () => Promise<T>) => Promise<T>;
}

export type HandlerOutcome =
  | { readonly kind: 'ok'; readonly value: unknown }
  | { readonly kind: 'failed'; readonly failure: FailureText }
  | { readonly kind: 'abandoned' };

export async function runHandler(handler: Handler, event: Event, run: HandlerRun): Promise<HandlerOutcome> {
  const { limits, life } = run;
  let counted = 0;
  for (let attempt = 1; ; attempt++) {
    if (life.aborted) return { kind: 'abandoned' };
    run.onAttempt();
    try {
      const value = await run.guard(() => {
        // It may have been held back until the shard was lost.
        if (life.aborted) throw new UnavailableError('the shard was lost');
        return attemptOnce(handler, event, attempt, run);
      });
      return { kind: 'ok', value };
    } catch (error) {
      if (life.aborted) return { kind: 'abandoned' };
      const code = codeOf(error);
      if (code !== 'UNAVAILABLE') counted++;
      const isFinal = code === 'PERMANENT' || code === 'EVENT';
      const { detail, stack } = describeThrown(error, event);
      if (isFinal || counted >= limits.maxAttempts) {
        const attempts = isFinal ? '' : ` (attempt ${attempt})`;
        return { kind: 'failed', failure: { reason: reasonOf(error), detail: `${detail}${attempts}`, stack } };
      }
      run.onRetry(attempt, detail);
      await sleep(run.time, backOffMs(limits, attempt, run.time), life);
    }
  }
}

function attemptOnce(handler: Handler, event: Event, attempt: number, run: HandlerRun): Promise<unknown> {
  const { timeoutMs } = run.limits;
  const abort = new AbortController();
  return new Promise((resolve, reject) => {
    // However the attempt ends, the shard keeps no reference to it: a handler may never settle.
    const end = () => {
      timer.cancel();
      run.life.removeEventListener('abort', onLost);
      run.inWork.delete(event);
    };
    const giveUp = (error: Error) => {
      end();
      abort.abort();
      reject(error);
    };
    const onLost = () => giveUp(new UnavailableError('the shard was lost'));
    const timer = run.time.after(timeoutMs, () => giveUp(new Error(`the handler did not finish within ${timeoutMs} ms`)));
    run.life.addEventListener('abort', onLost, { once: true });
    run.inWork.add(event);
    const context = { idempotencyKey: idempotencyKeyOf(event), attempt, signal: abort.signal, headers: run.headers };
    // Called within the promise chain, so that a synchronous throw counts as a failed attempt.
    Promise.resolve()
      .then(() => handler.handle(event, context))
      // A rejection that it does not wait for ends the process within this tick, before anything is committed.
      .then((value) => endOfTick(run.time).then(() => value))
      .then(resolve, reject)
      .finally(end);
  });
}

/** `type:id:sequence`; an event without a sequence has its id in that place. */
export function idempotencyKeyOf(event: Event): string {
  return `${event.entityType}:${event.entityId}:${event.sequence ?? event.id}`;
}
