/**
 * Reports the outcomes of one shard's deliveries during one life of its channel: to the metrics, the log, the detector and,
 * with a tracer, as spans. It decides nothing.
 */
import type { Tracer } from '@opentelemetry/api';
import type { Event, RawMessage, Refusal } from '../events/event.ts';
import { DeliverySpans } from '../observability/delivery-spans.ts';
import type { HourlyPerEntity, Log, LogFields } from '../observability/log.ts';
import type { Metrics, ShardMetrics } from '../observability/metrics.ts';
import { traceIdIn } from '../observability/tracing.ts';
import type { OrderingDetector } from '../detection/detector.ts';
import type { Delivery, Effect, Outcome, Rejection } from '../ordering/facts.ts';
import type { Time } from '../time.ts';

export interface DeliveryReportOptions {
  readonly shard: number;
  readonly queue: string;
  readonly detector: OrderingDetector;
  /** The entities for which a repeated id was logged in the last hour. */
  readonly repetitions: HourlyPerEntity;
  readonly metrics: Metrics;
  readonly shardMetrics: ShardMetrics;
  readonly log: Log;
  /** Null: no tracing. */
  readonly tracer: Tracer | null;
  readonly time: Time;
}

export class DeliveryReport {
  readonly #options: DeliveryReportOptions;
  readonly #messages: ReadonlyMap<number, RawMessage>;
  readonly #spans: DeliverySpans | null;

  /** `messages` holds the unsettled deliveries, by tag. */
  constructor(options: DeliveryReportOptions, messages: ReadonlyMap<number, RawMessage>) {
    this.#options = options;
    this.#messages = messages;
    const { tracer, shard, queue } = options;
    this.#spans = tracer === null ? null : new DeliverySpans(tracer, shard, queue);
  }

  arrived(tag: number, message: RawMessage, known: Event | Refusal): void {
    this.#spans?.arrived(tag, message, known);
  }

  early({ delivery, expected, received }: Extract<Effect, { kind: 'violation' }>): void {
    const { detector, metrics, log, shard, time } = this.#options;
    const { tag, event } = delivery;
    const { entityType, entityId, type } = event;
    this.#spans?.early(delivery, expected);
    metrics.violation(type, entityType, received - expected, this.#spans?.sampledTraceId(tag));
    detector.record({ entityType, entityId, messageId: event.id, type, expected, received, gap: received - expected, atMs: time.wallMs() });
    log.debug({ shard, ...this.#about(tag, event), expected, received }, 'an event came before its predecessor');
  }

  /** The id was applied before under another sequence: the sequence is passed, nothing is applied. One warning per entity and hour. */
  absorbed({ delivery, sequence, appliedAs }: Extract<Effect, { kind: 'absorbed' }>): void {
    const { shardMetrics, repetitions, log, shard, time } = this.#options;
    shardMetrics.absorbed();
    if (!repetitions.isDue(delivery.event, time.nowMs())) return;
    const about = { shard, ...this.#about(delivery.tag, delivery.event), sequence, applied_as: appliedAs };
    log.warn(
      about,
      'an id came again under another sequence with the same content: the sequence was passed, nothing was applied; further ones of this entity are counted but not logged for an hour',
    );
  }

  /** Deliveries of the broker that were applied, skipped or recognised as duplicates together, in sequence. */
  settled(outcome: Outcome, deliveries: readonly Delivery[]): void {
    const { shardMetrics, metrics, time } = this.#options;
    if (outcome === 'applied') {
      const nowMs = time.wallMs();
      for (const { tag, event } of deliveries) {
        if (event.timestampMs !== null) metrics.lag(event.type, (nowMs - event.timestampMs) / 1_000, this.#spans?.sampledTraceId(tag));
      }
    }
    this.#spans?.ended(outcome, deliveries);
    shardMetrics.ended(outcome, deliveries.length);
  }

  /** Logs one line per reason, with the first event of each. */
  deadLettered(rejections: readonly Rejection[]): void {
    const { shard, shardMetrics, log } = this.#options;
    const byReason = new Map<Rejection['reason'], Rejection[]>();
    for (const rejection of rejections) {
      const same = byReason.get(rejection.reason);
      if (same === undefined) byReason.set(rejection.reason, [rejection]);
      else same.push(rejection);
    }
    for (const [reason, same] of byReason) {
      const { tag, detail, event, refusal } = same[0] as Rejection;
      shardMetrics.deadLettered(reason, same.length);
      log.warn({ shard, reason, count: same.length, detail, ...this.#about(tag, event ?? refusal) }, 'dead-lettered');
    }
    for (const { tag, reason, detail } of rejections) this.#spans?.deadLettered(tag, reason, detail);
  }

  /** Nothing is dead-lettered: the event is still at the source, from which a replay can fetch it again. */
  fetchedWasRefused({ tag, reason, detail, event }: Rejection): void {
    const { shard, log } = this.#options;
    log.warn({ shard, reason, detail, ...this.#about(tag, event) }, 'an event that was fetched from the source was refused');
  }

  retried({ tag, event }: Delivery, attempt: number, cause: string): void {
    const { shard, metrics, log } = this.#options;
    metrics.processorRetried();
    this.#spans?.retried(tag, attempt, cause);
    log.warn({ shard, ...this.#about(tag, event), attempt, cause }, 'the processor failed; trying again');
  }

  /** Runs a processor's code within the span of its event. */
  within<T>(tag: number, work: () => T): T {
    return this.#spans === null ? work() : this.#spans.within(tag, work);
  }

  /** The channel has ended: unsettled deliveries go back to the broker. */
  ended(): void {
    this.#spans?.abandoned();
  }

  #about(tag: number, known: Event | Refusal | null): LogFields {
    const traceId = this.#spans?.traceId(tag) ?? traceIdIn(this.#messages.get(tag)?.headers ?? {});
    const { entityType, entityId, sequence, id } = known ?? {};
    return {
      entity_type: entityType,
      entity_id: entityId,
      sequence,
      message_id: id,
      ...(traceId === undefined ? {} : { trace_id: traceId }),
    };
  }
}
