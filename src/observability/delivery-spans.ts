/**
 * The spans of one shard's deliveries: each lasts from the arrival until the message is settled or given back to the
 * broker, and shows how long it was held. Its parent is the context in which the message was published. A processor
 * runs within the span of its event.
 */
import { context, type Span, type SpanContext, SpanKind, trace, type Tracer } from '@opentelemetry/api';
import type { Event, RawMessage, Refusal } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import type { Delivery } from '../ordering/facts.ts';
import { contextIn, failSpan } from './tracing.ts';

interface Tracked {
  readonly span: Span;
  /** The entity for whose predecessor it waits; null if it does not wait. */
  waitsIn: string | null;
}

/** An entity with held events. */
interface Waiting {
  count: number;
  /** The span of its last settled event. */
  last: SpanContext | null;
}

export class DeliverySpans {
  readonly #tracer: Tracer;
  readonly #shard: number;
  readonly #queue: string;
  readonly #tracked = new Map<number, Tracked>();
  readonly #waiting = new Map<string, Waiting>();

  constructor(tracer: Tracer, shard: number, queue: string) {
    this.#tracer = tracer;
    this.#shard = shard;
    this.#queue = queue;
  }

  arrived(tag: number, message: RawMessage, known: Event | Refusal): void {
    const { id, entityType, entityId, sequence } = known;
    const span = this.#tracer.startSpan(
      `process ${this.#queue}`,
      {
        kind: SpanKind.CONSUMER,
        attributes: {
          'messaging.system': 'rabbitmq',
          'messaging.operation.type': 'process',
          'messaging.operation.name': 'process',
          'messaging.destination.name': this.#queue,
          'messaging.rabbitmq.destination.routing_key': message.routingKey,
          'messaging.message.body.size': message.body.length,
          'inorder.shard': this.#shard,
          ...(id === null ? {} : { 'messaging.message.id': id }),
          ...(entityType === null ? {} : { 'inorder.entity.type': entityType }),
          ...(entityId === null ? {} : { 'inorder.entity.id': entityId }),
          ...(sequence === null ? {} : { 'inorder.sequence': sequence }),
        },
      },
      contextIn(message.headers),
    );
    this.#tracked.set(tag, { span, waitsIn: null });
  }

  /** It came before its predecessor. */
  early({ tag, event }: Delivery, expected: number): void {
    const tracked = this.#tracked.get(tag);
    if (tracked === undefined) return;
    tracked.waitsIn = entityKey(event);
    const waiting = this.#waiting.get(tracked.waitsIn);
    if (waiting === undefined) this.#waiting.set(tracked.waitsIn, { count: 1, last: null });
    else waiting.count++;
    tracked.span.addEvent('inorder.early', { 'inorder.expected_sequence': expected });
  }

  /** Ends the spans of settled events, each entity's in sequence. A held event is linked to the event that it waited for. */
  ended(outcome: string, deliveries: readonly Delivery[]): void {
    for (const { tag, event } of deliveries) {
      const tracked = this.#tracked.get(tag);
      if (tracked === undefined) continue;
      const { span, waitsIn } = tracked;
      const waiting = this.#waiting.size === 0 ? undefined : this.#waiting.get(waitsIn ?? entityKey(event));
      if (waiting !== undefined) {
        if (waitsIn !== null && waiting.last !== null)
          span.addLink({ context: waiting.last, attributes: { 'inorder.link': 'predecessor' } });
        waiting.last = span.spanContext();
      }
      span.setAttribute('inorder.outcome', outcome);
      this.#end(tag, tracked);
    }
  }

  deadLettered(tag: number, reason: string, detail: string): void {
    const tracked = this.#tracked.get(tag);
    if (tracked === undefined) return;
    tracked.span.setAttribute('inorder.outcome', 'dead-lettered');
    failSpan(tracked.span, reason, detail);
    this.#end(tag, tracked);
  }

  /** The channel is gone: unsettled messages go back to the broker. */
  abandoned(): void {
    for (const { span } of this.#tracked.values()) {
      span.setAttribute('inorder.outcome', 'returned');
      span.end();
    }
    this.#tracked.clear();
    this.#waiting.clear();
  }

  /** Runs a processor's code within the span. */
  within<T>(tag: number, work: () => T): T {
    const span = this.#tracked.get(tag)?.span;
    return span === undefined ? work() : context.with(trace.setSpan(context.active(), span), work);
  }

  retried(tag: number, attempt: number, message: string): void {
    this.#tracked.get(tag)?.span.addEvent('inorder.retry', { 'inorder.attempt': attempt, 'exception.message': message });
  }

  traceId(tag: number): string | undefined {
    return this.#tracked.get(tag)?.span.spanContext().traceId;
  }

  /** The trace id for an exemplar, if the trace is sampled. */
  sampledTraceId(tag: number): string | undefined {
    const spanContext = this.#tracked.get(tag)?.span.spanContext();
    return spanContext === undefined || (spanContext.traceFlags & 1) === 0 ? undefined : spanContext.traceId;
  }

  #end(tag: number, { span, waitsIn }: Tracked): void {
    span.end();
    this.#tracked.delete(tag);
    const waiting = waitsIn === null ? undefined : this.#waiting.get(waitsIn);
    if (waiting !== undefined && --waiting.count === 0) this.#waiting.delete(waitsIn as string);
  }
}
