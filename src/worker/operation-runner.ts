/**
 * Carries out the sequencer's operations of one shard during one life of its channel: one batch at a time, a
 * batch being whatever has gathered while the last one was under way. Idle, an event costs one round trip; busy,
 * many entities share it.
 *
 *   commit with its state at hand ─┐
 *   load, openGap, park, recall ───┼─▶ one round trip ─▶ facts
 *   commit whose state is missing ─┴─▶ load ─▶ prepare ─▶ one more round trip ─▶ facts
 *   commit with handlers: its id is looked up first, then it is prepared on the side and joins a later batch
 *
 * What the store leaves open is reported as `storeUnavailable`; the sequencer asks again with the same
 * operation, and every operation is safe to repeat.
 */
import { UnavailableError } from '../errors.ts';
import type { EntityRef, RawMessage } from '../events/event.ts';
import type { Effect, Fact, Rejection } from '../ordering/facts.ts';
import type { OperationEffect } from '../ordering/operations.ts';
import type { ClaimResult, Parked, ParkResult, Store } from '../stores/store.ts';
import { backOffMs, isoNow, type Time } from '../time.ts';
import { nextBatch } from './batch.ts';
import { recordOf } from './dead-letter-record.ts';
import type { CommitEffect, PreparationOptions, Prepared } from './preparation.ts';
import { type IdQuestion, type Preparation, PreparedCommits, type Reading } from './prepared-commits.ts';
import type { StateCache } from './state-cache.ts';

export interface OperationRunnerOptions {
  readonly store: Store;
  readonly shard: number;
  readonly epoch: number;
  /** Random: makes tokens and claims unique where an epoch was handed out twice. */
  readonly session: string;
  readonly states: StateCache;
  readonly maxStateWorkBytes: number;
  readonly preparation: PreparationOptions;
  readonly time: Time;
  readonly messageOf: (tag: number) => RawMessage | undefined;
  /** Facts of one batch, in order. */
  readonly report: (facts: readonly Fact[]) => void;
  /** The reasons are on record: now the rejects may leave. */
  readonly reject: (rejections: readonly Rejection[]) => void;
  /** What a handler returned for this delivery, now or when it was first processed. */
  readonly remember: (tag: number, result: string) => void;
  readonly observeBatch: (seconds: number) => void;
  readonly onUnavailable: (error: UnavailableError) => void;
  /** An entity has moved to this version, and is still parked. */
  readonly onStillParked: (entity: EntityRef, version: number, parked: Parked) => void;
  /** An entity was parked that was not. */
  readonly onParked: () => void;
  /** A commit has ended the parking of its entity. */
  readonly onUnparked: () => void;
  readonly fail: (error: unknown) => void;
}

type OperationOf<Kind extends Effect['kind']> = Extract<Effect, { readonly kind: Kind }>;

const storeBackOff = { initialMs: 100, maxMs: 5_000 };

/** What a batch has led to so far. */
interface Findings {
  readonly facts: Fact[];
  /** Operations of which nobody knows what became. */
  readonly unknown: number[];
}

export class OperationRunner {
  readonly #options: OperationRunnerOptions;
  readonly #states: StateCache;
  readonly #commits: PreparedCommits;
  readonly #reading: Reading;
  #queue: OperationEffect[] = [];
  #running = false;
  #ended = false;
  /** In a row. */
  #failures = 0;
  /** In a row, by operation: of entities whose keys are unusable. */
  readonly #entityFailures = new Map<number, number>();

  constructor(options: OperationRunnerOptions) {
    this.#options = options;
    this.#states = options.states;
    this.#reading = {
      seen: (entity, { version, holes, state }) => this.#states.put(entity, { version, holes, text: state, parsed: null }),
      entityUnavailable: (op, error) => this.#entityUnavailable(op, error),
      remember: options.remember,
    };
    const { epoch, session, preparation, onStillParked, onUnparked } = options;
    const later = (effect: CommitEffect, settled: Fact | null) => this.#preparedLater(effect, settled);
    this.#commits = new PreparedCommits({ tokenPrefix: `${epoch}:${session}`, preparation, states: this.#states, reading: this.#reading, later, onStillParked, onUnparked });
  }

  begin(operation: OperationEffect): void {
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

  /** The channel is gone: whatever is still under way is nobody's business any more. */
  end(): void {
    this.#ended = true;
    this.#queue = [];
    this.#commits.clear();
  }

  async #runBatches(): Promise<void> {
    while (this.#queue.length > 0 && !this.#ended) {
      const { now, later } = nextBatch(this.#queue, this.#options.maxStateWorkBytes, this.#states.typicalBytes);
      this.#queue = later;
      const findings: Findings = { facts: [], unknown: [] };
      const startedMs = this.#options.time.nowMs();
      await this.#runBatch(now, findings);
      if (this.#ended) return;
      this.#options.observeBatch((this.#options.time.nowMs() - startedMs) / 1_000);
      this.#conclude(findings);
    }
    // At once with the look at the queue: what is begun a moment later has to start a batch of its own.
    this.#running = false;
  }

  #conclude({ facts, unknown }: Findings): void {
    for (const fact of facts) if ('op' in fact && fact.kind !== 'entityUnavailable') this.#entityFailures.delete(fact.op);
    if (unknown.length > 0) {
      // What has gathered meanwhile waits as well: a rejection that went out now would overtake one that did not.
      const ops = unknown.concat(this.#queue.map(({ op }) => op));
      this.#queue = [];
      facts.push({ kind: 'storeUnavailable', ops, retryInMs: this.#retryInMs(++this.#failures) });
    } else if (facts.some(({ kind }) => kind !== 'entityUnavailable' && kind !== 'processing')) {
      this.#failures = 0;
    }
    this.#options.report(facts);
  }

  async #runBatch(operations: readonly OperationEffect[], findings: Findings): Promise<void> {
    const ready: Prepared[] = [];
    const loads: (OperationOf<'load'> | CommitEffect)[] = [];
    const claims: OperationOf<'openGap'>[] = [];
    const parks: OperationOf<'park'>[] = [];
    const recalls: OperationOf<'recall'>[] = [];
    const rejects: OperationOf<'reject'>[] = [];
    const questions: CommitEffect[] = [];
    for (const operation of operations) {
      if (operation.kind === 'commit') {
        if (this.#commits.questionOf(operation) === null) this.#prepare(operation, loads, ready, findings);
        else questions.push(operation);
      } else if (operation.kind === 'load') loads.push(operation);
      else if (operation.kind === 'openGap') claims.push(operation);
      else if (operation.kind === 'park') parks.push(operation);
      else if (operation.kind === 'recall') recalls.push(operation);
      else rejects.push(operation);
    }
    // First, and alone: what is on record is what the commits of this batch may end the parking of an entity by.
    await this.#reject(rejects, findings);
    if (this.#ended) return;
    if (findings.unknown.length > 0) {
      findings.unknown.push(...operations.flatMap(({ kind, op }) => (kind === 'reject' ? [] : [op])));
      return;
    }
    await Promise.all([
      this.#commit(ready, findings),
      this.#claim(claims, findings),
      this.#park(parks, findings),
      this.#recall(recalls, findings),
      this.#load(loads, findings).then((prepared) => this.#commit(prepared, findings)),
      this.#lookUpIds(questions, findings),
    ]);
  }

  #prepare(commit: CommitEffect, loads: (OperationOf<'load'> | CommitEffect)[], ready: Prepared[], findings: Findings): void {
    const preparation = this.#commits.begin(commit);
    if (preparation === null) loads.push(commit);
    else this.#take(commit, preparation, ready, findings);
  }

  /** The commits of which the store does not know the id are prepared: their handlers start to run. */
  async #lookUpIds(commits: readonly CommitEffect[], findings: Findings): Promise<void> {
    const questions = commits.flatMap((commit) => this.#commits.questionOf(commit) ?? []);
    const results = await this.#ask(commits, findings, () => this.#options.store.recall(questions.map(({ query }) => query)));
    if (this.#ended) return;
    const loads: CommitEffect[] = [];
    const ready: Prepared[] = [];
    results.forEach((result, index) => {
      const commit = commits[index] as CommitEffect;
      const known = this.#commits.knownFact(commit, questions[index] as IdQuestion, result);
      if (known === null) this.#prepare(commit, loads, ready, findings);
      else findings.facts.push(known);
    });
    await this.#commit(ready.concat(await this.#load(loads, findings)), findings);
  }

  #take({ op }: CommitEffect, preparation: Preparation, ready: Prepared[], findings: Findings): void {
    if (preparation === 'running') findings.facts.push({ kind: 'processing', op });
    else if ('ready' in preparation) ready.push(preparation.ready);
    else findings.facts.push(preparation.settled);
  }

  /** A commit whose handlers have run joins the next batch. */
  #preparedLater(effect: CommitEffect, settled: Fact | null): void {
    if (this.#ended) return;
    if (settled === null) this.#queue.push(effect);
    else this.#options.report([settled]);
    this.run();
  }

  async #commit(prepared: readonly Prepared[], findings: Findings): Promise<void> {
    const commits = prepared.flatMap(({ commit }) => (commit === null ? [] : [commit]));
    const results = await this.#ask(prepared.map(({ effect }) => effect), findings, () => this.#options.store.commit(commits));
    results.forEach((result, index) => findings.facts.push(this.#commits.answered(prepared[index] as Prepared, result)));
  }

  /** Reads what lanes ask for and what commits lack; returns the commits that could be prepared with it. */
  async #load(effects: readonly (OperationOf<'load'> | CommitEffect)[], findings: Findings): Promise<readonly Prepared[]> {
    const results = await this.#ask(effects, findings, () => this.#options.store.load(effects.map(({ entity }) => entity)));
    const ready: Prepared[] = [];
    results.forEach((result, index) => {
      const effect = effects[index] as (typeof effects)[number];
      if (result.status === 'failed') findings.facts.push(this.#entityUnavailable(effect.op, result.error));
      else if (effect.kind === 'commit') this.#take(effect, this.#commits.beginWith(effect, result.snapshot), ready, findings);
      else {
        this.#reading.seen(effect.entity, result.snapshot);
        findings.facts.push({ kind: 'loaded', op: effect.op, snapshot: result.snapshot });
      }
    });
    return ready;
  }

  async #claim(claims: readonly OperationOf<'openGap'>[], findings: Findings): Promise<void> {
    const { shard, epoch, session, store } = this.#options;
    const results = await this.#ask(claims, findings, () => store.claim(claims.map(({ entity }) => ({ ...entity, shard, epoch, session }))));
    results.forEach((result, index) => findings.facts.push(this.#claimed(claims[index] as OperationOf<'openGap'>, result)));
  }

  #claimed({ op, entity }: OperationOf<'openGap'>, result: ClaimResult): Fact {
    if (result.status === 'failed') return this.#entityUnavailable(op, result.error);
    if (result.status === 'fenced') return { kind: 'fenced', op };
    this.#reading.seen(entity, result.snapshot);
    return { kind: 'loaded', op, snapshot: result.snapshot };
  }

  #parked({ op, entity }: OperationOf<'park'>, result: ParkResult): Fact {
    if (result.status === 'failed') return this.#entityUnavailable(op, result.error);
    if (result.status === 'fenced') return { kind: 'fenced', op };
    if (result.status === 'ok') return { kind: 'parked', op };
    this.#reading.seen(entity, result.snapshot);
    return { kind: 'stale', op, snapshot: result.snapshot };
  }

  async #park(parks: readonly OperationOf<'park'>[], findings: Findings): Promise<void> {
    const { shard, epoch, session, store } = this.#options;
    const asked = parks.map(({ entity, expectedVersion, sequence, reason, detail }) => {
      return { ...entity, shard, epoch, session, expectedVersion, sequence, reason, detail };
    });
    const results = await this.#ask(parks, findings, () => store.park(asked));
    results.forEach((result, index) => {
      if (result.status === 'ok' && result.isNew) this.#options.onParked();
      findings.facts.push(this.#parked(parks[index] as OperationOf<'park'>, result));
    });
  }

  async #recall(recalls: readonly OperationOf<'recall'>[], findings: Findings): Promise<void> {
    const queries = recalls.flatMap(({ deliveries }) => deliveries.map(({ event }) => event));
    const results = await this.#ask(recalls, findings, () => this.#options.store.recall(queries));
    if (results.length === 0) return;
    let at = 0;
    for (const { op, deliveries } of recalls) findings.facts.push({ kind: 'recalled', op, results: results.slice(at, (at += deliveries.length)) });
  }

  async #reject(rejects: readonly OperationOf<'reject'>[], findings: Findings): Promise<void> {
    const { messageOf, shard, time } = this.#options;
    const rejections = rejects.flatMap((reject) => reject.rejections);
    const written = await this.#ask(rejects, findings, async () => {
      const at = isoNow(time);
      await this.#options.store.recordDeadLetters(rejections.map((rejection) => recordOf(rejection, messageOf(rejection.tag), shard, at)));
      return rejects;
    });
    if (written.length === 0 || this.#ended) return;
    this.#options.reject(rejections);
    for (const { op } of written) findings.facts.push({ kind: 'rejected', op });
  }

  /** Nothing when there is nothing to ask, or when the outcome is unknown; the operations are then among `unknown`. */
  async #ask<R>(operations: readonly OperationEffect[], findings: Findings, call: () => Promise<readonly R[]>): Promise<readonly R[]> {
    if (operations.length === 0) return [];
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (!this.#ended) this.#options.onUnavailable(error);
      findings.unknown.push(...operations.map(({ op }) => op));
      return [];
    }
  }

  #entityUnavailable(op: number, error: Error): Fact {
    if (!this.#ended) this.#options.onUnavailable(new UnavailableError(error.message, { cause: error }));
    const failures = (this.#entityFailures.get(op) ?? 0) + 1;
    this.#entityFailures.set(op, failures);
    return { kind: 'entityUnavailable', op, retryInMs: this.#retryInMs(failures) };
  }

  #retryInMs(failures: number): number {
    return backOffMs(storeBackOff, failures, this.#options.time);
  }
}
