/**
 * Spans, if a tracer provider was registered with `@opentelemetry/api` before Inorder starts; names and
 * attributes follow the semantic conventions for messaging. Without a provider there is no tracer, and no cost
 * per message.
 *
 *   publish ──▶ process ─┬─ held, until the missing event comes ─▶ applied          one trace, whose
 *                        └─ dead-lettered ─ ─ ─ replay ─▶ process ─▶ applied        root is the producer's
 */
import {
  context,
  propagation,
  ProxyTracerProvider,
  ROOT_CONTEXT,
  type Context,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  trace,
  type Tracer,
} from '@opentelemetry/api';
import { packageVersion } from '../config/config.ts';

type Headers = Readonly<Record<string, unknown>>;

/** Null without a registered tracer provider. */
export function registeredTracer(): Tracer | null {
  const provider = trace.getTracerProvider();
  // Without a registered provider the API returns a proxy without a delegate.
  if (provider instanceof ProxyTracerProvider && provider.getDelegateTracer('inorder') === undefined) return null;
  return trace.getTracer('inorder', packageVersion());
}

const fromHeaders: TextMapGetter<Headers> = {
  keys: (headers) => Object.keys(headers),
  get(headers, name) {
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    return typeof value === 'string' ? value : undefined;
  },
};

/** The context in a message's headers; `ROOT_CONTEXT` if there is none. */
export function contextIn(headers: Headers): Context {
  return propagation.extract(ROOT_CONTEXT, headers, fromHeaders);
}

/** The fields of a sent message for its span. */
export interface SentMessage {
  readonly routingKey: string;
  readonly body: Uint8Array;
  readonly properties: { readonly messageId?: unknown; readonly headers?: Headers };
}

/**
 * A span from now until the broker's answer, and the headers with its context. A message that already has a context
 * (it is passed on or replayed) keeps it: the span is linked to it.
 */
export function publishSpan(
  tracer: Tracer,
  exchange: string,
  { routingKey, body, properties }: SentMessage,
): { readonly span: Span; readonly headers: Headers } {
  const given = properties.headers ?? {};
  const created = trace.getSpanContext(contextIn(given));
  const span = tracer.startSpan(`publish ${exchange}`, {
    kind: SpanKind.PRODUCER,
    attributes: {
      'messaging.system': 'rabbitmq',
      'messaging.operation.type': 'send',
      'messaging.operation.name': 'publish',
      'messaging.destination.name': exchange,
      'messaging.rabbitmq.destination.routing_key': routingKey,
      'messaging.message.body.size': body.length,
      ...(typeof properties.messageId === 'string' ? { 'messaging.message.id': properties.messageId } : {}),
    },
    links: created === undefined ? [] : [{ context: created }],
  });
  if (created !== undefined) return { span, headers: given };
  const headers = { ...given };
  propagation.inject(trace.setSpan(context.active(), span), headers);
  return { span, headers };
}

/** Marks a span as failed. `type` is one of a few fixed values. */
export function failSpan(span: Span, type: string, message: string): void {
  span.setAttribute('error.type', type);
  span.setStatus({ code: SpanStatusCode.ERROR, message });
}

const traceparent = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/;
const noTrace = '0'.repeat(32);

/** The trace id of a `traceparent` header for logs, also without spans: 32 hex digits; undefined if there is no valid one. */
export function traceIdIn(headers: Headers): string | undefined {
  const header = Object.hasOwn(headers, 'traceparent') ? headers.traceparent : undefined;
  const traceId = typeof header === 'string' ? traceparent.exec(header)?.[1] : undefined;
  return traceId === noTrace ? undefined : traceId;
}
