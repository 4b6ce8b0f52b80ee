/**
 * Registers a tracer provider as a user would, in a module that is imported before Inorder (`NODE_OPTIONS=--import …`):
 * spans go, a line each, to the file that SPAN_FILE names.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { context, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { BasicTracerProvider, type ReadableSpan, SimpleSpanProcessor, type SpanExporter } from '@opentelemetry/sdk-trace-base';

export interface WrittenSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly events: readonly { readonly name: string; readonly attributes: unknown }[];
  /** Ids of the spans it is linked to. */
  readonly links: readonly string[];
  readonly error: string | undefined;
}

function written(span: ReadableSpan): WrittenSpan {
  const { name, kind, attributes, events, links, status, parentSpanContext } = span;
  const { traceId, spanId } = span.spanContext();
  return {
    name,
    kind,
    traceId,
    spanId,
    parentSpanId: parentSpanContext?.spanId,
    attributes,
    events: events.map((event) => ({ name: event.name, attributes: event.attributes })),
    links: links.map((link) => link.context.spanId),
    error: status.message,
  };
}

function writeSpansTo(file: string): void {
  const exporter: SpanExporter = {
    export(spans, done) {
      appendFileSync(file, spans.map((span) => `${JSON.stringify(written(span))}\n`).join(''));
      done({ code: 0 });
    },
    shutdown: async () => {},
  };
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
}

export function readSpans(file: string): readonly WrittenSpan[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line));
}

const { SPAN_FILE } = process.env;
if (SPAN_FILE !== undefined) writeSpansTo(SPAN_FILE);
