/**
 * One life of a shard's channel: its epoch, its delivery tags, its operations at the store. It carries
 * effects out and forgets everything when it ends; a new life starts with a new session.
 */
import { setMaxListeners } from 'node:events';
import { messageOf, UnavailableError } from '../errors.ts';
import type { EncodedEvent } from '../events/encode.ts';
import type { RawMessage } from '../events/event.ts';
import type { Log } from '../observability/log.ts';
import type { Metrics, ShardMetrics } from '../observability/metrics.ts';
import type { OrderingDetector } from '../ordering/detector.ts';
import type { Effect, Fact, Outcome, Rejection, Delivery } from '../ordering/facts.ts';
import type { Store } from '../stores/store.ts';
import { Acknowledger, type SettlingChannel } from './acknowledger.ts';
import type { AutoReplay } from './auto-replay.ts';
import { backOffMs, pause } from './back-off.ts';
import type { RetryLimits } from './handler-run.ts';
import { OperationRunner } from './operation-runner.ts';
import type { PreparationOptions } from './preparation.ts';

export interface SessionOptions {
  readonly shard: number;
  readonly generation: number;
  readonly store: Store;
  readonly processors: PreparationOptions['processors'];
  readonly maxStateBytes: number;
  readonly maxCachedStates: number;
  readonly retry: RetryLimits;
  /** Null: what was dead-lettered waits for an operator. */
  readonly autoReplay: Pick<AutoReplay, 'advanced' | 'search'> | null;
  readonly random: () => number;
  readonly detector: OrderingDetector;
  readonly metrics: Metrics;
  readonly shardMetrics: ShardMetrics;
  readonly log: Log;
  /** Sends what a handler returned to whoever asked for it. */
  readonly reply: (replyTo: string, correlationId: string | undefined, result: string) => void;
  /** Rejects with `UnavailableError`. */
  readonly nextEpoch: () => Promise<number>;
  readonly settle: SettlingChannel;
  readonly handle: (facts: readonly Fact[]) => void;
  readonly fail: (error: unknown) => void;
}

function isFetched(tag: number): boolean {
  return tag < 0;
}

const epochBackOff = { initialMs: 100, maxMs: 5_000 };

export class ShardSession {
  readonly generation: number;
  /** Null until the store has given one out. */
  epoch: number | null = null;
  readonly #options: SessionOptions;
  readonly #life = new AbortController();
  readonly #acknowledger: Acknowledger;
  /** What is not settled yet, by delivery tag. */
  readonly #messages = new Map<number, RawMessage>();
  /** What handlers returned for deliveries whose sender wants to know. */
  readonly #results = new Map<number, string>();
  #runner: OperationRunner | null = null;
  #waiting: (() => void)[] | null = null;
  /** Events that were fetched have tags below those of the broker, which count from 1. */
  #lastFetchedTag = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.generation = options.generation;
    this.#acknowledger = new Acknowledger(options.settle);
    // One for each handler that is running.
    setMaxListeners(0, this.#life.signal);
  }

  arrived(tag: number, message: RawMessage): void {
    this.#messages.set(tag, message);
    this.#acknowledger.arrived(tag);
  }

  /** For an event that was fetched from a source: the tag under which it is worked on. The broker knows nothing of it. */
  fetched({ body, routingKey, properties }: EncodedEvent): number {
    const tag = --this.#lastFetchedTag;
    const { contentType, messageId, type, timestamp, headers } = properties;
    this.#messages.set(tag, {
      body,
      routingKey,
      contentType,
      contentEncoding: undefined,
      messageId,
      type,
      timestamp,
      replyTo: undefined,
      correlationId: undefined,
      headers,
    });
    return tag;
  }

  /** An epoch begins with the first delivery: a standby that gets none needs none. */
  whenEpochIsKnown(go: () => void): void {
    if (this.epoch !== null) {
      go();
    } else if (this.#waiting !== null) {
      this.#waiting.push(go);
    } else {
      this.#waiting = [go];
      void this.#askForEpoch();
    }
  }

  /** Carries one effect out, or queues it for the next batch at the store. */
  carryOut(effect: Exclude<Effect, { kind: 'drained' | 'halt' }>): void {
    switch (effect.kind) {
      case 'ack':
        this.#ack(effect.outcome, effect.deliveries);
        break;
      case 'violation':
        this.#violation(effect);
        break;
      case 'pause':
        this.#options.log.warn({ shard: this.#options.shard }, 'the store is away: pausing');
        break;
      case 'resume':
        this.#options.log.info({ shard: this.#options.shard }, 'the store is back: going on');
        break;
      default:
        this.#runner?.begin(effect);
    }
  }

  /** Call once after the effects of a turn: sends acknowledgements and starts the next batch. */
  flush(): void {
    this.settle();
    this.#runner?.run();
  }

  /** Sends the acknowledgements that are decided: what is committed is so whoever owns the shard by now. */
  settle(): void {
    this.#acknowledger.flush();
  }

  end(): void {
    this.#life.abort();
    this.#runner?.end();
    this.#messages.clear();
    this.#results.clear();
    this.#waiting = null;
  }

  async #askForEpoch(): Promise<void> {
    const { nextEpoch, random, log, shard } = this.#options;
    for (let failures = 1; !this.#life.signal.aborted; failures++) {
      try {
        const epoch = await nextEpoch();
        if (!this.#life.signal.aborted) this.#begin(epoch);
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError)) {
          if (!this.#life.signal.aborted) this.#options.fail(error);
          return;
        }
        this.#options.metrics.storeUnavailable();
        if (failures === 1) log.warn({ shard, cause: error.message }, 'the store is away: no epoch yet');
        await pause(backOffMs(epochBackOff, failures, random), this.#life.signal);
      }
    }
  }

  #begin(epoch: number): void {
    this.epoch = epoch;
    this.#options.autoReplay?.search(this.#options.shard);
    this.#runner = this.#makeRunner(epoch);
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const go of waiting) go();
  }

  #makeRunner(epoch: number): OperationRunner {
    const { store, shard, processors, maxStateBytes, maxCachedStates, retry, autoReplay, random, metrics, shardMetrics, log } = this.#options;
    return new OperationRunner({
      store,
      shard,
      epoch,
      maxCachedStates,
      random,
      preparation: {
        processors,
        maxStateBytes,
        handlerRun: {
          limits: retry,
          life: this.#life.signal,
          random,
          onAttempt: () => metrics.processorAttempted(),
          onRetry: ({ entityType, entityId, sequence }, attempt, error) => {
            metrics.processorRetried();
            const cause = messageOf(error);
            log.warn({ shard, entity_type: entityType, entity_id: entityId, sequence, attempt, cause }, 'the processor failed; trying again');
          },
        },
        headersOf: (tag) => this.#messages.get(tag)?.headers ?? {},
      },
      messageOf: (tag) => this.#messages.get(tag),
      report: (facts) => this.#options.handle(facts),
      reject: (rejections) => this.#reject(rejections),
      remember: (tag, result) => {
        if (this.#messages.get(tag)?.replyTo !== undefined) this.#results.set(tag, result);
      },
      onParked: () => shardMetrics.parked(),
      onUnparked: () => shardMetrics.unparked(),
      onStillParked: (entity, version, parked) => autoReplay?.advanced(shard, entity, version, parked),
      observeBatch: (seconds) => metrics.committed(seconds),
      onUnavailable: (error) => {
        metrics.storeUnavailable();
        log.warn({ shard, cause: error.message }, 'the store did not answer as needed');
      },
      fail: (error) => this.#options.fail(error),
    });
  }

  #ack(outcome: Outcome, deliveries: readonly Delivery[]): void {
    const { shardMetrics, metrics } = this.#options;
    const nowMs = outcome === 'applied' ? Date.now() : 0;
    let fetched = 0;
    for (const { tag, event } of deliveries) {
      if (isFetched(tag)) {
        fetched++;
        this.#messages.delete(tag);
        continue;
      }
      if (nowMs !== 0 && event.timestampMs !== null) metrics.lag(event.type, (nowMs - event.timestampMs) / 1000);
      this.#replyTo(tag);
      this.#messages.delete(tag);
      this.#acknowledger.ack(tag);
    }
    shardMetrics.ended(outcome, deliveries.length - fetched);
    if (outcome === 'applied') shardMetrics.repaired(fetched);
  }

  /** Before the acknowledgement: a crash in between sends the reply again rather than never. */
  #replyTo(tag: number): void {
    const result = this.#results.get(tag);
    if (result === undefined) return;
    this.#results.delete(tag);
    const message = this.#messages.get(tag);
    if (message?.replyTo !== undefined) this.#options.reply(message.replyTo, message.correlationId, result);
  }

  #reject(rejections: readonly Rejection[]): void {
    const { shard, shardMetrics, log } = this.#options;
    const byReason = new Map<Rejection['reason'], Rejection[]>();
    for (const rejection of rejections) {
      this.#messages.delete(rejection.tag);
      if (isFetched(rejection.tag)) {
        this.#fetchedIsRefused(rejection);
        continue;
      }
      this.#acknowledger.reject(rejection.tag);
      const same = byReason.get(rejection.reason);
      if (same === undefined) byReason.set(rejection.reason, [rejection]);
      else same.push(rejection);
    }
    for (const [reason, same] of byReason) {
      shardMetrics.deadLettered(reason, same.length);
      const first = same[0] as Rejection;
      const known = first.event ?? first.refusal;
      const fields = { shard, reason, count: same.length, detail: first.detail };
      const of = { entity_type: known?.entityType, entity_id: known?.entityId, sequence: known?.sequence, message_id: known?.id };
      log.warn({ ...fields, ...of }, 'dead-lettered');
    }
  }

  /** No message becomes a dead letter: it is still at the source, from where a replay can fetch it again. */
  #fetchedIsRefused({ reason, detail, event }: Rejection): void {
    const { shard, log } = this.#options;
    const of = { entity_type: event?.entityType, entity_id: event?.entityId, sequence: event?.sequence, message_id: event?.id };
    log.warn({ shard, reason, detail, ...of }, 'an event that was fetched from the source was refused');
  }

  #violation({ event, expected, received }: Extract<Effect, { kind: 'violation' }>): void {
    const { detector, metrics, log, shard } = this.#options;
    const { entityType, entityId, type } = event;
    metrics.violation(type, entityType, received - expected);
    detector.record({ entityType, entityId, messageId: event.id, type, expected, received, gap: received - expected, atMs: Date.now() });
    log.debug({ shard, entity_type: entityType, entity_id: entityId, expected, received }, 'an event came before its predecessor');
  }
}
