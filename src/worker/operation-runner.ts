/**
 * Carries out the sequencer's operations of one shard during one life of its channel: one batch at a time, a
 * batch being whatever has gathered while the last one was under way. Idle, an event costs one round trip; busy,
 * many entities share it.
 *
 *   commit with its state at hand ─┐
 *   load, openGap, park, recall ───┼─▶ one round trip ─▶ facts
 *   commit whose state is missing ─┴─▶ load ─▶ prepare ─▶ one more round trip ─▶ facts
 *   commit with handlers: prepared on the side, joins a later batch
 *
 * What the store leaves open is reported as `storeUnavailable`; the sequencer asks again with the same
 * operation, and the commit goes out again as it was prepared, under the same token.
 */
import { InvariantError, UnavailableError } from '../errors.ts';
import type { EntityRef, RawMessage } from '../events/event.ts';
import { fingerprint } from '../events/identity.ts';
import type { Effect, EntityView, Fact, RecallVerdict, Rejection } from '../ordering/facts.ts';
import type { CommitResult, DeadLetterRecord, Snapshot, Store } from '../stores/store.ts';
import { backOffMs } from './back-off.ts';
import { type CommitEffect, type PreparationOptions, type Prepared, prepare } from './preparation.ts';
import { StateCache } from './state-cache.ts';

export type OperationEffect = Extract<Effect, { readonly op: number }>;

export interface OperationRunnerOptions {
  readonly store: Store;
  readonly shard: number;
  readonly epoch: number;
  readonly maxCachedStates: number;
  readonly preparation: PreparationOptions;
  readonly random: () => number;
  readonly messageOf: (tag: number) => RawMessage | undefined;
  /** Facts of one batch, in order. */
  readonly report: (facts: readonly Fact[]) => void;
  /** The reasons are on record: now the rejects may leave. */
  readonly reject: (rejections: readonly Rejection[]) => void;
  /** What a handler returned for this delivery, now or when it was first processed. */
  readonly remember: (tag: number, result: string) => void;
  readonly observeBatch: (entities: number, seconds: number) => void;
  readonly onUnavailable: (error: UnavailableError) => void;
  readonly fail: (error: unknown) => void;
}

const storeBackOff = { initialMs: 100, maxMs: 5_000 };

/** The work of one batch, by kind. */
interface Batch {
  readonly ready: Prepared[];
  readonly stateless: CommitEffect[];
  readonly loads: Extract<OperationEffect, { kind: 'load' }>[];
  readonly claims: Extract<OperationEffect, { kind: 'openGap' }>[];
  readonly parks: Extract<OperationEffect, { kind: 'park' }>[];
  readonly recalls: Extract<OperationEffect, { kind: 'recall' }>[];
  readonly rejects: Extract<OperationEffect, { kind: 'reject' }>[];
}

export class OperationRunner {
  readonly #options: OperationRunnerOptions;
  readonly #states: StateCache;
  /** Commits that were prepared and not answered yet, by operation. */
  readonly #prepared = new Map<number, Prepared>();
  #queue: OperationEffect[] = [];
  #running = false;
  #ended = false;
  #failures = 0;

  constructor(options: OperationRunnerOptions) {
    this.#options = options;
    this.#states = new StateCache(options.maxCachedStates);
  }

  begin(operation: OperationEffect): void {
    this.#queue.push(operation);
  }

  /** Starts the next batch unless one is under way. */
  run(): void {
    if (this.#running || this.#ended || this.#queue.length === 0) return;
    this.#running = true;
    this.#runBatches().then(
      () => {
        this.#running = false;
      },
      (error: unknown) => {
        this.#running = false;
        if (!this.#ended) this.#options.fail(error);
      },
    );
  }

  /** The channel is gone: whatever is still under way is nobody's business any more. */
  end(): void {
    this.#ended = true;
    this.#queue = [];
    this.#prepared.clear();
    this.#states.clear();
  }

  async #runBatches(): Promise<void> {
    while (this.#queue.length > 0 && !this.#ended) {
      const operations = this.#queue;
      this.#queue = [];
      const facts: Fact[] = [];
      const unknown: number[] = [];
      const started = performance.now();
      await this.#runBatch(operations, facts, unknown);
      if (this.#ended) return;
      this.#options.observeBatch(operations.length, (performance.now() - started) / 1000);
      if (unknown.length > 0) facts.push({ kind: 'storeUnavailable', ops: unknown, retryInMs: this.#nextRetryInMs() });
      else if (facts.length > 0) this.#failures = 0;
      this.#options.report(facts);
    }
  }

  async #runBatch(operations: readonly OperationEffect[], facts: Fact[], unknown: number[]): Promise<void> {
    const batch = this.#sort(operations, facts);
    const loaded = this.#load(batch, facts, unknown);
    await Promise.all([
      this.#commit(batch.ready, facts, unknown),
      this.#claim(batch.claims, facts, unknown),
      this.#park(batch.parks, facts, unknown),
      this.#recall(batch.recalls, facts, unknown),
      this.#reject(batch.rejects, facts, unknown),
      loaded.then((prepared) => this.#commit(prepared, facts, unknown)),
    ]);
  }

  #sort(operations: readonly OperationEffect[], facts: Fact[]): Batch {
    const batch: Batch = { ready: [], stateless: [], loads: [], claims: [], parks: [], recalls: [], rejects: [] };
    for (const operation of operations) {
      switch (operation.kind) {
        case 'commit':
          this.#sortCommit(operation, batch, facts);
          break;
        case 'load':
          batch.loads.push(operation);
          break;
        case 'openGap':
          batch.claims.push(operation);
          break;
        case 'park':
          batch.parks.push(operation);
          break;
        case 'recall':
          batch.recalls.push(operation);
          break;
        case 'reject':
          batch.rejects.push(operation);
          break;
      }
    }
    return batch;
  }

  #sortCommit(effect: CommitEffect, batch: Batch, facts: Fact[]): void {
    const prepared = this.#prepared.get(effect.op);
    if (prepared !== undefined) {
      batch.ready.push(prepared);
      return;
    }
    const { entity, expectedVersion: version, expectedHoles: holes } = effect;
    // Version 0 without holes is nothing: there is no state to load.
    const blank = version === 0 && holes === '' ? { version, holes, text: null, parsed: null } : null;
    const before = this.#states.take(entity, version, holes) ?? blank;
    if (before === null) batch.stateless.push(effect);
    else this.#prepare(effect, before, batch.ready, facts);
  }

  /** Into `ready` when it is prepared at once; what has handlers comes back through the queue. */
  #prepare(effect: CommitEffect, before: Parameters<typeof prepare>[2], ready: Prepared[], facts: Fact[]): void {
    const unreadable = (error: unknown) => {
      const detail = `the processor failed: ${error instanceof Error ? error.message : String(error)}`;
      const failure = { reason: 'handler_failed', detail } as const;
      return { kind: 'committed', op: effect.op, done: 0, parked: false, failure } satisfies Fact;
    };
    try {
      const prepared = prepare(effect, `${this.#options.epoch}:${effect.op}`, before, this.#options.preparation);
      if (!(prepared instanceof Promise)) {
        this.#ready(prepared, ready, facts);
        return;
      }
      prepared.then(
        (done) => {
          if (done === null || this.#ended) return;
          const later: Prepared[] = [];
          const settled: Fact[] = [];
          this.#ready(done, later, settled);
          if (later.length > 0) this.#queue.push(effect);
          if (settled.length > 0) this.#options.report(settled);
          this.run();
        },
        (error: unknown) => {
          if (!this.#ended) this.#options.report([unreadable(error)]);
        },
      );
    } catch (error) {
      facts.push(unreadable(error));
    }
  }

  #ready(prepared: Prepared, ready: Prepared[], facts: Fact[]): void {
    const { effect, failure } = prepared;
    if (prepared.commit === null) {
      facts.push({ kind: 'committed', op: effect.op, done: 0, parked: false, failure });
      return;
    }
    this.#prepared.set(effect.op, prepared);
    ready.push(prepared);
  }

  async #commit(prepared: readonly Prepared[], facts: Fact[], unknown: number[]): Promise<void> {
    if (prepared.length === 0) return;
    const commits = prepared.map((one) => one.commit as NonNullable<Prepared['commit']>);
    const results = await this.#ask(() => this.#options.store.commit(commits), prepared.map((one) => one.effect.op), unknown);
    results?.forEach((result, index) => facts.push(this.#committed(prepared[index] as Prepared, result)));
  }

  #committed(prepared: Prepared, result: CommitResult): Fact {
    const { effect, done, failure } = prepared;
    const { op } = effect;
    if (result.status === 'failed') return this.#entityUnavailable(op, result.error);
    this.#prepared.delete(op);
    switch (result.status) {
      case 'ok':
      case 'duplicate':
        this.#states.put(effect.entity, prepared.after);
        this.#rememberResults(prepared);
        return { kind: 'committed', op, done, parked: result.parked !== null, failure };
      case 'stale':
        this.#cache(effect.entity, result.snapshot);
        return { kind: 'stale', op, view: viewOf(result.snapshot) };
      case 'conflict':
        return { kind: 'idConflict', op, conflicts: result.conflicts };
    }
  }

  #rememberResults(prepared: Prepared): void {
    prepared.commit?.events.forEach(({ result }, index) => {
      const slot = prepared.effect.slots[index];
      if (result !== null && slot !== undefined) this.#options.remember(slot.delivery.tag, result);
    });
  }

  /** Reads what lanes ask for and what commits lack; returns the commits that could be prepared with it. */
  async #load(batch: Batch, facts: Fact[], unknown: number[]): Promise<readonly Prepared[]> {
    const effects = [...batch.loads, ...batch.stateless];
    if (effects.length === 0) return [];
    const entities = effects.map((effect) => effect.entity);
    const results = await this.#ask(() => this.#options.store.load(entities), effects.map((effect) => effect.op), unknown);
    const ready: Prepared[] = [];
    results?.forEach((result, index) => {
      const effect = effects[index] as (typeof effects)[number];
      if (result.status === 'failed') facts.push(this.#entityUnavailable(effect.op, result.error));
      else if (effect.kind === 'commit') this.#prepareLoaded(effect, result.snapshot, ready, facts);
      else {
        this.#cache(effect.entity, result.snapshot);
        facts.push({ kind: 'loaded', op: effect.op, view: viewOf(result.snapshot) });
      }
    });
    return ready;
  }

  #prepareLoaded(effect: CommitEffect, snapshot: Snapshot, ready: Prepared[], facts: Fact[]): void {
    const { version, holes, state: text } = snapshot;
    if (version === effect.expectedVersion && holes === effect.expectedHoles) {
      this.#prepare(effect, { version, holes, text, parsed: null }, ready, facts);
    } else {
      this.#cache(effect.entity, snapshot);
      facts.push({ kind: 'stale', op: effect.op, view: viewOf(snapshot) });
    }
  }

  async #claim(claims: Batch['claims'], facts: Fact[], unknown: number[]): Promise<void> {
    if (claims.length === 0) return;
    const { shard, epoch, store } = this.#options;
    const asked = claims.map(({ entity }) => ({ ...entity, shard, epoch }));
    const results = await this.#ask(() => store.claim(asked), claims.map(({ op }) => op), unknown);
    results?.forEach((result, index) => {
      const { op, entity } = claims[index] as (typeof claims)[number];
      if (result.status === 'failed') facts.push(this.#entityUnavailable(op, result.error));
      else if (result.status === 'fenced') facts.push({ kind: 'fenced', op });
      else {
        this.#cache(entity, result.snapshot);
        facts.push({ kind: 'loaded', op, view: viewOf(result.snapshot) });
      }
    });
  }

  async #park(parks: Batch['parks'], facts: Fact[], unknown: number[]): Promise<void> {
    if (parks.length === 0) return;
    const { shard, epoch, store } = this.#options;
    const asked = parks.map(({ entity, expectedVersion, sequence, reason, detail }) => {
      return { ...entity, shard, epoch, expectedVersion, sequence, reason, detail };
    });
    const results = await this.#ask(() => store.park(asked), parks.map(({ op }) => op), unknown);
    results?.forEach((result, index) => {
      const { op, entity } = parks[index] as (typeof parks)[number];
      if (result.status === 'failed') facts.push(this.#entityUnavailable(op, result.error));
      else if (result.status === 'fenced') facts.push({ kind: 'fenced', op });
      else if (result.status === 'ok') facts.push({ kind: 'parked', op });
      else {
        this.#cache(entity, result.snapshot);
        facts.push({ kind: 'stale', op, view: viewOf(result.snapshot) });
      }
    });
  }

  async #recall(recalls: Batch['recalls'], facts: Fact[], unknown: number[]): Promise<void> {
    if (recalls.length === 0) return;
    const deliveries = recalls.flatMap((recall) => recall.deliveries);
    const queries = deliveries.map(({ event }) => event);
    const results = await this.#ask(() => this.#options.store.recall(queries), recalls.map(({ op }) => op), unknown);
    if (results === null) return;
    let at = 0;
    for (const recall of recalls) {
      const verdicts = recall.deliveries.map(({ tag, event }): RecallVerdict => {
        const result = results[at++];
        if (result === undefined) throw new InvariantError('the store answered a recall in part');
        if (result.status !== 'known') return result.status;
        if (result.payloadHash !== event.payloadHash) return 'different';
        if (result.result !== null) this.#options.remember(tag, result.result);
        return 'same';
      });
      facts.push({ kind: 'recalled', op: recall.op, verdicts });
    }
  }

  async #reject(rejects: Batch['rejects'], facts: Fact[], unknown: number[]): Promise<void> {
    if (rejects.length === 0) return;
    const rejections = rejects.flatMap((reject) => reject.rejections);
    const records = rejections.map((rejection) => this.#recordOf(rejection));
    const ops = rejects.map(({ op }) => op);
    const written = await this.#ask(() => this.#options.store.recordDeadLetters(records).then(() => []), ops, unknown);
    if (written === null || this.#ended) return;
    this.#options.reject(rejections);
    for (const op of ops) facts.push({ kind: 'rejected', op });
  }

  #recordOf({ tag, reason, detail, event, refusal }: Rejection): DeadLetterRecord {
    const message = this.#options.messageOf(tag);
    if (message === undefined) throw new InvariantError(`delivery ${tag} is rejected and was never taken in`);
    const known = event ?? refusal;
    return {
      fingerprint: fingerprint(message.body),
      id: known?.id ?? null,
      entityType: known?.entityType ?? null,
      entityId: known?.entityId ?? null,
      sequence: known?.sequence ?? null,
      type: known?.type ?? null,
      reason,
      detail,
      shard: this.#options.shard,
      deadLetteredAt: new Date().toISOString(),
    };
  }

  /** Null when the outcome is unknown; the operations are then among `unknown`. */
  async #ask<R>(call: () => Promise<readonly R[]>, ops: readonly number[], unknown: number[]): Promise<readonly R[] | null> {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (!this.#ended) this.#options.onUnavailable(error);
      unknown.push(...ops);
      return null;
    }
  }

  #entityUnavailable(op: number, error: Error): Fact {
    if (!this.#ended) this.#options.onUnavailable(new UnavailableError(error.message, { cause: error }));
    return { kind: 'entityUnavailable', op, retryInMs: this.#nextRetryInMs() };
  }

  #nextRetryInMs(): number {
    this.#failures++;
    return backOffMs(storeBackOff, this.#failures, this.#options.random);
  }

  #cache(entity: EntityRef, { version, holes, state }: Snapshot): void {
    this.#states.put(entity, { version, holes, text: state, parsed: null });
  }
}

function viewOf({ exists, version, holes, parked }: Snapshot): EntityView {
  return { exists, version, holes, parked: parked !== null };
}
