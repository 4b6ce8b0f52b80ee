/**
 * The spans of one shard's deliveries: each lasts from the arrival until the message is settled or goes back to the
 * broker, with the time in which it was held; its parent is the context in which the message was published. What a
 * processor does, it does within the span of its event.
 */
import { context, type Span, SpanKind, trace, type Tracer } from '@opentelemetry/api';
import type { Event, RawMessage, Refusal } from '../events/event.ts';
import { contextIn, failSpan } from './tracing.ts';

interface Tracked {
  readonly span: Span;
  held: boolean;
}

export class DeliverySpans {
  readonly #tracer: Tracer;
  readonly #shard: number;
  readonly #queue: string;
  readonly #tracked = new Map<number, Tracked>();

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
    this.#tracked.set(tag, { span, held: false });
  }

  /** It came before its predecessor. */
  early(tag: number, expected: number): void {
    const tracked = this.#tracked.get(tag);
    if (tracked === undefined) return;
    tracked.held = true;
    tracked.span.addEvent('inorder.early', { 'inorder.expected_sequence': expected });
  }

  /**
   * These were settled together, in sequence. What had been held is linked to the event before it, for which it had
   * waited.
   */
  ended(outcome: string, deliveries: readonly { readonly tag: number }[]): void {
    let before: Span | null = null;
    for (const { tag } of deliveries) {
      const tracked = this.#tracked.get(tag);
      if (tracked === undefined) continue;
      const { span, held } = tracked;
      if (held && before !== null) span.addLink({ context: before.spanContext(), attributes: { 'inorder.link': 'predecessor' } });
      before = span;
      span.setAttribute('inorder.outcome', outcome);
      this.#end(tag, span);
    }
  }

  deadLettered(tag: number, reason: string, detail: string): void {
    const span = this.#tracked.get(tag)?.span;
    if (span === undefined) return;
    span.setAttribute('inorder.outcome', 'dead-lettered');
    failSpan(span, reason, detail);
    this.#end(tag, span);
  }

  /** The channel is gone: what was not settled goes back to the broker. */
  abandoned(): void {
    for (const { span } of this.#tracked.values()) {
      span.setAttribute('inorder.outcome', 'returned');
      span.end();
    }
    this.#tracked.clear();
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

  /** For an exemplar: the trace id where the trace is kept. */
  sampledTraceId(tag: number): string | undefined {
    const spanContext = this.#tracked.get(tag)?.span.spanContext();
    return spanContext === undefined || (spanContext.traceFlags & 1) === 0 ? undefined : spanContext.traceId;
  }

  #end(tag: number, span: Span): void {
    span.end();
    this.#tracked.delete(tag);
  }
}
