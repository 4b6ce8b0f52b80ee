/**
 * Carries out the sequencer's operations of one shard during one life of its channel, one batch at a time. A batch takes
 * the operations that were queued while the previous one ran: idle, an event costs one round trip; busy, many entities
 * share it. Each batch ends in one result, which says everything that is left to do.
 *
 *   commit with its state at hand ─┐
 *   load, claim, park, look-up ────┼─▶ one round trip ─▶ result
 *   commit whose state is missing ─┴─▶ load ─▶ prepare ─▶ one more round trip ─▶ result
 *   commit with handlers: its id is looked up first, then it is prepared on the side and joins a later batch
 *
 * A commit is prepared once and kept until it is answered: if it is asked for again, it is sent unchanged, under the same token,
 * and its handlers do not run again. An operation whose outcome is unknown is reported as `storeUnavailable`; the sequencer asks
 * for the same operation again, and every operation is safe to repeat.
 */
import { describeThrown } from '../aggregates/thrown.ts';
import { InvariantError, UnavailableError } from '../errors.ts';
import type { EntityRef, RawMessage } from '../events/event.ts';
import { messageFingerprint } from '../events/identity.ts';
import type { Effect, Fact, OperationEffect, Rejection } from '../ordering/facts.ts';
import type { CommitResult, DeadLetterRecord, Parked, LookupQuery, LookupResult, Snapshot } from '../ordering/entity.ts';
import type { Store } from '../stores/store.ts';
import { backOffMs, isoNow, type Time } from '../time.ts';
import { type CommitEffect, type ProcessingOptions, type Prepared, prepare, recordsId } from './processing.ts';
import type { CachedState, StateCache } from './memory.ts';

export interface StoreBatchOptions {
  readonly store: Store;
  readonly shard: number;
  readonly epoch: number;
  /** Random: makes tokens and claims unique even if an epoch is handed out twice. */
  readonly session: string;
  readonly states: StateCache;
  readonly maxStateWorkBytes: number;
  readonly processing: ProcessingOptions;
  readonly time: Time;
  /** The messages of deliveries that are not settled, by tag. */
  readonly messages: ReadonlyMap<number, RawMessage>;
  /** The result of a batch, of a commit whose handlers ran beside it, or of rejections, which do not wait for the rest of their batch. */
  readonly done: (result: BatchResult) => void;
  readonly fail: (error: unknown) => void;
}

/** The result of a batch. */
export class BatchResult {
  /** For the sequencer, in order. */
  readonly facts: Fact[] = [];
  /** Rejections whose reasons are recorded: they can now be sent. */
  readonly rejections: Rejection[] = [];
  /** The results of handlers by delivery tag, from this batch or from when the event was first processed. */
  readonly results: { readonly tag: number; readonly result: string }[] = [];
  /** The numbers of entities that became parked, and of those whose parking a commit ended. */
  parked = 0;
  unparked = 0;
  /** Entities whose version moved and that are still parked. */
  readonly stillParked: { readonly entity: EntityRef; readonly version: number; readonly parked: Parked }[] = [];
  /** Why the store, or the keys of an entity, did not answer. */
  readonly unavailable: UnavailableError[] = [];
  /** The duration of the batch; null if there was none. */
  seconds: number | null = null;
}

type OperationOf<Kind extends Effect['kind']> = Extract<Effect, { readonly kind: Kind }>;

/** The result of preparing a commit: it can be sent, is answered without the store, or its handlers are running. */
type Preparation = { readonly ready: Prepared } | { readonly answered: Fact } | 'running';

/** The event that a handler would get next: the index of its slot, and the query for its id. */
interface IdQuestion {
  readonly index: number;
  readonly query: LookupQuery;
}

const storeBackOff = { initialMs: 100, maxMs: 5_000 };
/** Copies of a state that exist at a time: read, parsed, evolved, written and sent. */
const copiesOfState = 8;

export class StoreBatches {
  readonly #options: StoreBatchOptions;
  #queue: OperationEffect[] = [];
  #running = false;
  #ended = false;
  /** Consecutive failures. */
  #failures = 0;
  /** Consecutive failures of entities whose keys are unusable, by operation. */
  readonly #entityFailures = new Map<number, number>();
  /** Commits that are prepared and not answered, by operation. */
  readonly #unanswered = new Map<number, Prepared>();

  constructor(options: StoreBatchOptions) {
    this.#options = options;
  }

  enqueue(operation: OperationEffect): void {
    this.#queue.push(operation);
  }

  /** Starts the next batch unless one is under way. */
  run(): void {
    if (this.#running || this.#ended || this.#queue.length === 0) return;
    this.#running = true;
    this.#runBatches().catch((error: unknown) => {
      this.#running = false;
      if (!this.#ended) this.#options.fail(error);
    });
  }

  /** The channel is gone: the outcome of running operations no longer matters. */
  end(): void {
    this.#ended = true;
    this.#queue = [];
    this.#unanswered.clear();
  }

  async #runBatches(): Promise<void> {
    const { time, maxStateWorkBytes, states } = this.#options;
    while (this.#queue.length > 0 && !this.#ended) {
      const { now, later } = nextBatch(this.#queue, maxStateWorkBytes, states.typicalBytes);
      this.#queue = later;
      const batch = new Batch();
      const startedMs = time.nowMs();
      await this.#runBatch(now, batch);
      if (this.#ended) return this.#options.done(batch.changes());
      batch.seconds = (time.nowMs() - startedMs) / 1_000;
      this.#conclude(batch);
    }
    // In the same step as the check of the queue: an operation that comes later has to start its own batch.
    this.#running = false;
  }

  #conclude(batch: Batch): void {
    const { facts, unknown } = batch;
    for (const fact of facts) if ('op' in fact && fact.kind !== 'entityUnavailable') this.#entityFailures.delete(fact.op);
    if (unknown.length > 0) {
      // The operations queued meanwhile wait as well: a rejection sent now would overtake one that was not.
      const ops = unknown.concat(this.#queue.map(({ op }) => op));
      this.#queue = [];
      facts.push({ kind: 'storeUnavailable', ops, retryInMs: this.#retryInMs(++this.#failures) });
    } else if (facts.some(({ kind }) => kind !== 'entityUnavailable' && kind !== 'processing')) {
      this.#failures = 0;
    }
    this.#options.done(batch);
  }

  async #runBatch(operations: readonly OperationEffect[], batch: Batch): Promise<void> {
    const ready: Prepared[] = [];
    const loads: (OperationOf<'load'> | CommitEffect)[] = [];
    const claims: OperationOf<'claimAndRead'>[] = [];
    const parks: OperationOf<'park'>[] = [];
    const lookups: OperationOf<'lookUp'>[] = [];
    const rejects: OperationOf<'reject'>[] = [];
    const questions: { readonly commit: CommitEffect; readonly question: IdQuestion }[] = [];
    for (const operation of operations) {
      if (operation.kind === 'commit') {
        const commit = this.#permitted(operation, batch);
        const question = commit === null ? null : this.#questionOf(commit);
        if (commit !== null && question !== null) questions.push({ commit, question });
        else if (commit !== null) this.#prepare(commit, loads, ready, batch);
      } else if (operation.kind === 'load') loads.push(operation);
      else if (operation.kind === 'claimAndRead') claims.push(operation);
      else if (operation.kind === 'park') parks.push(operation);
      else if (operation.kind === 'lookUp') lookups.push(operation);
      else rejects.push(operation);
    }
    // First, and alone: a commit of this batch may end an entity's parking, which depends on its recorded dead letters.
    await this.#reject(rejects, batch);
    if (this.#ended) return;
    if (batch.unknown.length > 0) {
      batch.unknown.push(...operations.flatMap(({ kind, op }) => (kind === 'reject' ? [] : [op])));
      return;
    }
    await Promise.all([
      this.#commit(ready, batch),
      this.#claim(claims, batch),
      this.#park(parks, batch),
      this.#lookUp(lookups, batch),
      this.#load(loads, batch).then((prepared) => this.#commit(prepared, batch)),
      this.#lookUpIds(questions, batch),
    ]);
  }

  /** The part of a commit that may be processed now; null when its first event must not be, because its processor ends the process. */
  #permitted(effect: CommitEffect, { facts }: Batch): CommitEffect | null {
    const { trials } = this.#options.processing;
    const { op, slots } = effect;
    const [first] = slots;
    if (trials === null || first === undefined || this.#unanswered.has(op)) return effect;
    const failure = first.action === 'apply' ? trials.verdictOn(first.delivery) : null;
    if (failure !== null) facts.push({ kind: 'committed', op, done: 0, parked: null, failure });
    const count = trials.together(slots);
    return failure !== null ? null : count === slots.length ? effect : { ...effect, slots: slots.slice(0, count) };
  }

  /** Handlers have side effects, so an id that is already known must be found before they run. Null if there is nothing to ask. */
  #questionOf({ op, entity, slots }: CommitEffect): IdQuestion | null {
    if (this.#unanswered.has(op) || !this.#options.processing.processors.forType(entity.entityType)?.handlers.length) return null;
    const index = slots.findIndex(({ action }) => action === 'apply');
    const event = slots[index]?.delivery.event;
    return event === undefined || !recordsId(event) ? null : { index, query: { ...entity, sequence: null, id: event.id } };
  }

  /** Prepares the commits whose ids the store does not know: their handlers start to run. */
  async #lookUpIds(asked: readonly { readonly commit: CommitEffect; readonly question: IdQuestion }[], batch: Batch): Promise<void> {
    const commits = asked.map(({ commit }) => commit);
    const results = await this.#ask(commits, batch, () => this.#options.store.lookUp(asked.map(({ question }) => question.query)));
    if (this.#ended) return;
    const loads: CommitEffect[] = [];
    const ready: Prepared[] = [];
    results.forEach((result, index) => {
      const { commit, question } = asked[index]!;
      const known = this.#knownFact(commit, question, result, batch);
      if (known === null) this.#prepare(commit, loads, ready, batch);
      else batch.facts.push(known);
    });
    await this.#commit(ready.concat(await this.#load(loads, batch)), batch);
  }

  /** The fact that ends a commit before its handler runs because the event's id is known; null if it is not known. */
  #knownFact({ op, slots }: CommitEffect, { index }: IdQuestion, result: LookupResult, batch: Batch): Fact | null {
    const { delivery, sequence } = slots[index]!;
    if (result.status === 'failed') return this.#entityUnavailable(op, result.error, batch);
    if (result.status !== 'known' || result.sequence === sequence) return null;
    const samePayload = result.payloadHash === delivery.event.payloadHash;
    if (samePayload && result.result !== null) batch.results.push({ tag: delivery.tag, result: result.result });
    return { kind: 'idConflict', op, conflicts: [{ index, recordedSequence: result.sequence, samePayload }] };
  }

  /** A commit whose state is not cached is added to `loads`. */
  #prepare(effect: CommitEffect, loads: (OperationOf<'load'> | CommitEffect)[], ready: Prepared[], batch: Batch): void {
    const prepared = this.#unanswered.get(effect.op);
    const before = prepared === undefined ? this.#options.states.take(effect.entity, effect.expectedVersion, effect.expectedHoles) : null;
    if (prepared !== undefined) ready.push(prepared);
    else if (before === null) loads.push(effect);
    else this.#take(effect, this.#process(effect, before), ready, batch);
  }

  #process(effect: CommitEffect, before: CachedState): Preparation {
    const { epoch, session, processing } = this.#options;
    try {
      const prepared = prepare(effect, `${epoch}:${session}:${effect.op}`, before, processing);
      if (!(prepared instanceof Promise)) return this.#keep(prepared);
      prepared.then(
        (done) => {
          if (done !== null) this.#processedLater(effect, this.#keep(done));
        },
        (error: unknown) => this.#processedLater(effect, { answered: processorFailed(effect, error) }),
      );
      return 'running';
    } catch (error) {
      return { answered: processorFailed(effect, error) };
    }
  }

  #keep(prepared: Prepared): Exclude<Preparation, 'running'> {
    const { effect, failure } = prepared;
    if (prepared.commit === null) return { answered: { kind: 'committed', op: effect.op, done: 0, parked: null, failure } };
    this.#unanswered.set(effect.op, prepared);
    return { ready: prepared };
  }

  /** A commit whose handlers have run joins the next batch. */
  #processedLater(effect: CommitEffect, preparation: Exclude<Preparation, 'running'>): void {
    if (this.#ended) return;
    if ('ready' in preparation) this.#queue.push(effect);
    else {
      const result = new BatchResult();
      result.facts.push(preparation.answered);
      this.#options.done(result);
    }
    this.run();
  }

  #take({ op }: CommitEffect, preparation: Preparation, ready: Prepared[], { facts }: Batch): void {
    if (preparation === 'running') facts.push({ kind: 'processing', op });
    else if ('ready' in preparation) ready.push(preparation.ready);
    else facts.push(preparation.answered);
  }

  async #commit(prepared: readonly Prepared[], batch: Batch): Promise<void> {
    const commits = prepared.flatMap(({ commit }) => (commit === null ? [] : [commit]));
    const results = await this.#ask(
      prepared.map(({ effect }) => effect),
      batch,
      () => this.#options.store.commit(commits),
    );
    results.forEach((result, index) => batch.facts.push(this.#committed(prepared[index]!, result, batch)));
  }

  #committed(prepared: Prepared, result: CommitResult, batch: Batch): Fact {
    const { effect, commit, done, failure, after } = prepared;
    const { op, entity, slots, expectedVersion } = effect;
    if (result.status === 'failed') return this.#entityUnavailable(op, result.error, batch);
    this.#unanswered.delete(op);
    if (result.status === 'stale') return { kind: 'stale', op, snapshot: this.#seen(entity, result.snapshot) };
    if (result.status === 'conflict') return { kind: 'idConflict', op, conflicts: result.conflicts };
    this.#options.states.put(entity, after);
    commit?.events.forEach((event, index) => {
      const slot = slots[index];
      if (event.result !== null && slot?.action === 'apply') batch.results.push({ tag: slot.delivery.tag, result: event.result });
    });
    if (result.status === 'ok' && result.unparked) batch.unparked++;
    if (result.parked !== null && after.version > expectedVersion)
      batch.stillParked.push({ entity, version: after.version, parked: result.parked });
    return { kind: 'committed', op, done, parked: result.parked, failure };
  }

  /** Reads what lanes ask for and the states that commits lack; returns the commits that were prepared with them. */
  async #load(effects: readonly (OperationOf<'load'> | CommitEffect)[], batch: Batch): Promise<readonly Prepared[]> {
    const results = await this.#ask(effects, batch, () => this.#options.store.load(effects.map(({ entity }) => entity)));
    const ready: Prepared[] = [];
    results.forEach((result, index) => {
      const effect = effects[index]!;
      if (result.status === 'failed') return void batch.facts.push(this.#entityUnavailable(effect.op, result.error, batch));
      const { version, holes, state: text } = result.snapshot;
      if (effect.kind === 'commit' && version === effect.expectedVersion && holes === effect.expectedHoles) {
        return this.#take(effect, this.#process(effect, { version, holes, text, parsed: null }), ready, batch);
      }
      const snapshot = this.#seen(effect.entity, result.snapshot);
      batch.facts.push({ kind: effect.kind === 'commit' ? 'stale' : 'loaded', op: effect.op, snapshot });
    });
    return ready;
  }

  async #claim(claims: readonly OperationOf<'claimAndRead'>[], batch: Batch): Promise<void> {
    const { shard, epoch, session, store } = this.#options;
    const results = await this.#ask(claims, batch, () => store.claim(claims.map(({ entity }) => ({ ...entity, shard, epoch, session }))));
    results.forEach((result, index) => {
      const { op, entity } = claims[index]!;
      if (result.status === 'failed') batch.facts.push(this.#entityUnavailable(op, result.error, batch));
      else if (result.status === 'fenced') batch.facts.push({ kind: 'fenced', op });
      else batch.facts.push({ kind: 'loaded', op, snapshot: this.#seen(entity, result.snapshot) });
    });
  }

  async #park(parks: readonly OperationOf<'park'>[], batch: Batch): Promise<void> {
    const { shard, epoch, session, store } = this.#options;
    const asked = parks.map(({ entity, expectedVersion, sequence, reason, detail }) => {
      return { ...entity, shard, epoch, session, expectedVersion, sequence, reason, detail };
    });
    const results = await this.#ask(parks, batch, () => store.park(asked));
    results.forEach((result, index) => {
      const { op, entity } = parks[index]!;
      if (result.status === 'ok' && result.isNew) batch.parked++;
      if (result.status === 'failed') batch.facts.push(this.#entityUnavailable(op, result.error, batch));
      else if (result.status === 'stale') batch.facts.push({ kind: 'stale', op, snapshot: this.#seen(entity, result.snapshot) });
      else batch.facts.push({ kind: result.status === 'ok' ? 'parked' : 'fenced', op });
    });
  }

  async #lookUp(lookups: readonly OperationOf<'lookUp'>[], batch: Batch): Promise<void> {
    const queries = lookups.flatMap(({ deliveries }) => deliveries.map(({ event }) => event));
    const results = await this.#ask(lookups, batch, () => this.#options.store.lookUp(queries));
    if (results.length === 0) return;
    let at = 0;
    for (const { op, deliveries } of lookups)
      batch.facts.push({ kind: 'lookedUp', op, results: results.slice(at, (at += deliveries.length)) });
  }

  async #reject(rejects: readonly OperationOf<'reject'>[], batch: Batch): Promise<void> {
    const { store, messages, shard, time } = this.#options;
    const rejections = rejects.flatMap((reject) => reject.rejections);
    const written = await this.#ask(rejects, batch, async () => {
      const deadLetteredAt = isoNow(time);
      await store.recordDeadLetters(rejections.map((rejection) => recordOf(rejection, messages.get(rejection.tag), shard, deadLetteredAt)));
      return rejects;
    });
    if (written.length === 0 || this.#ended) return;
    const result = new BatchResult();
    result.rejections.push(...rejections);
    this.#options.done(result);
    for (const { op } of written) batch.facts.push({ kind: 'rejected', op });
  }

  /** Empty if there is nothing to ask, or if the outcome is unknown; then the operations are added to `unknown`. */
  async #ask<R>(operations: readonly OperationEffect[], batch: Batch, call: () => Promise<readonly R[]>): Promise<readonly R[]> {
    if (operations.length === 0) return [];
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      batch.unavailable.push(error);
      batch.unknown.push(...operations.map(({ op }) => op));
      return [];
    }
  }

  /** Caches the state that was read, so that it is not loaded again. */
  #seen(entity: EntityRef, snapshot: Snapshot): Snapshot {
    const { version, holes, state: text } = snapshot;
    this.#options.states.put(entity, { version, holes, text, parsed: null });
    return snapshot;
  }

  #entityUnavailable(op: number, error: Error, batch: Batch): Fact {
    batch.unavailable.push(new UnavailableError(error.message, { cause: error }));
    const failures = (this.#entityFailures.get(op) ?? 0) + 1;
    this.#entityFailures.set(op, failures);
    return { kind: 'entityUnavailable', op, retryInMs: this.#retryInMs(failures) };
  }

  #retryInMs(failures: number): number {
    return backOffMs(storeBackOff, failures, this.#options.time);
  }
}

class Batch extends BatchResult {
  /** Operations with an unknown outcome. */
  readonly unknown: number[] = [];

  /** What it changed in the store, which is true even when nobody waits for its answers any more. */
  changes(): BatchResult {
    return Object.assign(new BatchResult(), { parked: this.parked, unparked: this.unparked, stillParked: this.stillParked });
  }
}

/**
 * Chooses the queued operations of the next batch: all of them, or as many as there is memory for their states. Rejections are
 * always included, because commits must not overtake them; operations with states are taken in the order of asking, so that
 * busy entities do not starve the reads.
 */
export function nextBatch(
  gathered: OperationEffect[],
  maxStateBytes: number,
  typicalBytes: number,
): { readonly now: OperationEffect[]; readonly later: OperationEffect[] } {
  const most = Math.max(1, Math.floor(maxStateBytes / (copiesOfState * typicalBytes)));
  if (gathered.length <= most) return { now: gathered, later: [] };
  const hasNoState = ({ kind }: OperationEffect) => kind === 'lookUp' || kind === 'park' || kind === 'reject';
  const withState = gathered.filter((operation) => !hasNoState(operation));
  return { now: gathered.filter(hasNoState).concat(withState.slice(0, most)), later: withState.slice(most) };
}

/** An unexpected failure of a processor: the stored state cannot be read, or its result cannot be written. */
function processorFailed({ op, slots }: CommitEffect, error: unknown): Fact {
  const { detail, stack } = describeThrown(error, ...slots.map(({ delivery }) => delivery.event));
  const failure = { reason: 'handler_failed', detail: `the processor failed: ${detail}`, stack } as const;
  return { kind: 'committed', op, done: 0, parked: null, failure };
}

/** The reason, and what could be read of the event. The message goes to the dead-letter queue; its fingerprint finds this record. */
function recordOf(rejection: Rejection, message: RawMessage | undefined, shard: number, deadLetteredAt: string): DeadLetterRecord {
  const { tag, reason, detail, stack, event, refusal } = rejection;
  if (message === undefined) throw new InvariantError(`delivery ${tag} is rejected and was never taken in`);
  const { id = null, entityType = null, entityId = null, sequence = null, type = null } = event ?? refusal ?? {};
  const record = {
    fingerprint: messageFingerprint(message),
    id,
    entityType,
    entityId,
    sequence,
    type,
    reason,
    detail,
    shard,
    deadLetteredAt,
  };
  return stack == null ? record : { ...record, stack };
}
