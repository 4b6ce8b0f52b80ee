/** What a message says of the trace it belongs to, by W3C Trace Context; for logs, also where no spans are made. */

const traceparent = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/;
const noTrace = '0'.repeat(32);

/** The trace id in a `traceparent` header: 32 hex digits; undefined where there is none that is valid. */
export function traceIdIn(headers: Readonly<Record<string, unknown>>): string | undefined {
  const header = Object.hasOwn(headers, 'traceparent') ? headers.traceparent : undefined;
  const traceId = typeof header === 'string' ? traceparent.exec(header)?.[1] : undefined;
  return traceId === noTrace ? undefined : traceId;
}
