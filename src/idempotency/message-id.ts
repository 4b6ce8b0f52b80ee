/**
 * What makes a message the same message: the id that it carries, or else its content.
 */
import { fingerprint } from '../events/identity.ts';
import { canonicalJson } from '../events/json-scan.ts';

/**
 * The id that the message carries as `id`, `messageId` or (a delivery of amqplib) `properties.messageId`. Without
 * one: the first 32 hex digits of the SHA-256 of its `content`, or of the canonical JSON of the whole message,
 * in which the order of keys does not count.
 */
export function messageIdOf(message: unknown): string {
  if (!isRecord(message)) return contentId(message);
  const { id, messageId, properties, content } = message;
  for (const candidate of [id, messageId, isRecord(properties) ? properties.messageId : undefined]) {
    if (typeof candidate === 'string' && candidate !== '') return candidate;
  }
  return content instanceof Uint8Array ? fingerprint(content) : contentId(message);
}

function contentId(message: unknown): string {
  if (message instanceof Uint8Array) return fingerprint(message);
  return fingerprint(Buffer.from(canonicalJson(message)));
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !(value instanceof Uint8Array);
}
