/**
 * How names and opaque texts are kept in PostgreSQL, whose `text` takes every character but NUL. What is looked up is found by
 * a digest, for an index takes no long text; what is read by people is kept beside it as text.
 */
import { createHash } from 'node:crypto';
import type { EntityRef } from '../../events/event.ts';

/** The server's clock, in milliseconds since 1970. It moves within a statement: what is compared with it is not looked up by an index. */
export const clockMs = '(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

/** The same when the statement began, and while it runs: an index serves it. */
export const beganMs = '(extract(epoch FROM statement_timestamp()) * 1000)::bigint';

/** The same for the same entity, and for no other. */
export function entityKey({ entityType, entityId }: EntityRef): Buffer {
  return digest(JSON.stringify([entityType, entityId]));
}

export function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** As it is, but for NUL and the backslash, which stands for it. */
export function toText(name: string): string {
  return /[\0\\]/.test(name) ? name.replace(/[\0\\]/g, (char) => (char === '\0' ? '\\0' : '\\\\')) : name;
}

export function fromText(text: string): string {
  return text.includes('\\') ? text.replace(/\\(.)/g, (_, char: string) => (char === '0' ? '\0' : '\\')) : text;
}

/** A state or a result: any text, byte for byte. */
export function toBytes(text: string | null): Buffer | null {
  return text === null ? null : Buffer.from(text);
}

export function fromBytes(bytes: Buffer | null): string | null {
  return bytes === null ? null : bytes.toString();
}
