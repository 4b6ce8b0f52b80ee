/**
 * One life of a shard's channel: its epoch, its delivery tags, its operations at the store. It carries
 * effects out and forgets everything when it ends; a new life starts with a new session.
 */
import { setMaxListeners } from 'node:events';
import { UnavailableError } from '../errors.ts';
import type { EncodedEvent } from '../events/encode.ts';
import type { Decoded, RawMessage } from '../events/event.ts';
import type { Effect, Fact, Outcome, Rejection, Delivery } from '../ordering/facts.ts';
import type { RawDelivery } from '../rabbitmq/shard-channel.ts';
import type { EpochResult, Store } from '../stores/store.ts';
import { backOffMs, sleep } from '../time.ts';
import { Acknowledger, type SettlingChannel } from './acknowledger.ts';
import type { AutoReplay } from './auto-replay.ts';
import { DeliveryReport, type DeliveryReportOptions } from './delivery-report.ts';
import type { RetryLimits } from './handler-run.ts';
import { OperationRunner } from './operation-runner.ts';
import { type Admitted, Intake } from './intake.ts';
import type { WorkerMemory } from './memory.ts';
import type { PreparationOptions } from './preparation.ts';

export interface SessionOptions extends DeliveryReportOptions {
  readonly generation: number;
  readonly store: Store;
  readonly processors: PreparationOptions['processors'];
  readonly maxStateBytes: number;
  /** Whether what is applied is kept in the entity's log. */
  readonly eventLog: boolean;
  readonly memory: WorkerMemory;
  /** Deliveries that nobody waits for to be settled: held, or stuck in work. */
  readonly waiting: () => number;
  readonly retry: RetryLimits;
  /** Null: what was dead-lettered waits for an operator. */
  readonly autoReplay: Pick<AutoReplay, 'advanced' | 'search'> | null;
  /** Sends what a handler returned to whoever asked for it. */
  readonly reply: (replyTo: string, correlationId: string | undefined, result: string) => void;
  /** Of this shard. Rejects with `UnavailableError`. */
  readonly nextEpoch: () => Promise<EpochResult>;
  readonly settle: SettlingChannel;
  readonly handle: (facts: readonly Fact[]) => void;
  /** The shard is halted, so that the session does not begin. */
  readonly refused: (detail: string) => void;
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
  readonly #report: DeliveryReport;
  readonly #intake: Intake;
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
    this.#report = new DeliveryReport(options, (tag) => this.#messages.get(tag));
    this.#intake = new Intake({
      memory: options.memory.deliveries,
      waiting: options.waiting,
      giveBack: (tag) => this.#acknowledger.giveBack(tag),
      onMissed: () => options.handle([]),
      time: options.time,
    });
    // One for each handler that is running.
    setMaxListeners(0, this.#life.signal);
  }

  /** It has been given something, and the store no epoch. */
  get waitsForEpoch(): boolean {
    return this.#waiting !== null;
  }

  /** Deliveries for which there is no memory; the broker will give them again. */
  get outside(): number {
    return this.#intake.outside;
  }

  /** What of it there is memory for. */
  admit(deliveries: readonly RawDelivery[]): readonly Admitted[] {
    for (const { tag } of deliveries) this.#acknowledger.arrived(tag);
    return this.#intake.admit(deliveries);
  }

  arrived(tag: number, message: RawMessage, decoded: Decoded): void {
    this.#messages.set(tag, message);
    this.#report.arrived(tag, message, decoded.ok ? decoded.event : decoded.refusal);
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
  carryOut(effect: Exclude<Effect, { kind: 'drained' | 'halt' | 'turn' }>): void {
    switch (effect.kind) {
      case 'ack':
        this.#ack(effect.outcome, effect.deliveries);
        break;
      case 'violation':
        this.#report.early(effect);
        break;
      case 'remembered':
        this.#remember(effect.delivery.tag, effect.result);
        break;
      case 'absorbed':
        this.#report.absorbed(effect);
        break;
      case 'pause':
        this.#options.log.warn({ shard: this.#options.shard }, 'the store is unavailable: pausing');
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
    this.#options.shardMetrics.givenBack(this.#intake.refill());
    this.#runner?.run();
  }

  /** Sends the acknowledgements that are decided: what is committed is so whoever owns the shard by now. */
  settle(): void {
    this.#acknowledger.flush();
  }

  end(): void {
    this.#life.abort();
    this.#runner?.end();
    this.#report.ended();
    this.#intake.end();
    this.#messages.clear();
    this.#results.clear();
    this.#waiting = null;
  }

  async #askForEpoch(): Promise<void> {
    const { nextEpoch, time, log, shard } = this.#options;
    for (let failures = 1; !this.#life.signal.aborted; failures++) {
      try {
        const result = await nextEpoch();
        if (this.#life.signal.aborted) return;
        if (result.status === 'ok') this.#begin(result.epoch);
        else this.#options.refused(result.halt.detail);
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError)) {
          if (!this.#life.signal.aborted) this.#options.fail(error);
          return;
        }
        this.#options.metrics.storeUnavailable();
        if (failures === 1) log.warn({ shard, cause: error.message }, 'the store is unavailable: no epoch yet');
        await sleep(time, backOffMs(epochBackOff, failures, time), this.#life.signal);
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
    const { store, shard, processors, maxStateBytes, memory, retry, autoReplay, time, metrics, shardMetrics, log } = this.#options;
    return new OperationRunner({
      store,
      shard,
      epoch,
      // The store may have lost its count of epochs and give one out twice.
      session: Math.floor(time.random() * 2 ** 52).toString(36),
      states: memory.states.newCache(),
      maxStateWorkBytes: memory.maxStateWorkBytes,
      time,
      preparation: {
        processors,
        maxStateBytes,
        eventLog: this.#options.eventLog,
        handlerRun: {
          limits: retry,
          life: this.#life.signal,
          time,
          onAttempt: () => metrics.processorAttempted(),
        },
        onRetry: (delivery, attempt, error) => this.#report.retried(delivery, attempt, error),
        within: (tag, work) => this.#report.within(tag, work),
        headersOf: (tag) => this.#messages.get(tag)?.headers ?? {},
      },
      messageOf: (tag) => this.#messages.get(tag),
      report: (facts) => this.#options.handle(facts),
      reject: (rejections) => this.#reject(rejections),
      remember: (tag, result) => this.#remember(tag, result),
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

  #remember(tag: number, result: string): void {
    if (this.#messages.get(tag)?.replyTo !== undefined) this.#results.set(tag, result);
  }

  #ack(outcome: Outcome, deliveries: readonly Delivery[]): void {
    const delivered = this.#lastFetchedTag === 0 ? deliveries : deliveries.filter(({ tag }) => !isFetched(tag));
    this.#report.settled(outcome, delivered);
    if (outcome === 'applied') this.#options.shardMetrics.repaired(deliveries.length - delivered.length);
    for (const { tag } of deliveries) {
      if (!isFetched(tag)) {
        this.#replyTo(tag);
        this.#acknowledger.ack(tag);
      }
      this.#forget(tag);
    }
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
    const letters = rejections.filter(({ tag }) => !isFetched(tag));
    this.#report.deadLettered(letters);
    for (const { tag } of letters) this.#acknowledger.reject(tag);
    for (const rejection of rejections) {
      if (isFetched(rejection.tag)) this.#report.fetchedWasRefused(rejection);
      this.#forget(rejection.tag);
    }
  }

  #forget(tag: number): void {
    this.#messages.delete(tag);
    this.#intake.settled(tag);
  }
}
