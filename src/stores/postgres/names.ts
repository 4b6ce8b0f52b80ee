/**
 * How names and opaque texts are stored in PostgreSQL, whose `text` takes every character but NUL. Look-ups use a digest,
 * because an index takes no long text; the name is kept beside it as text for people.
 */
import { createHash } from 'node:crypto';
import type { EntityRef } from '../../events/event.ts';

/** The server's clock in milliseconds since 1970. It moves during a statement, so comparisons with it cannot use an index. */
export const clockMs = '(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

/** The same clock at the start of the statement: comparisons can use an index. */
export const beganMs = '(extract(epoch FROM statement_timestamp()) * 1000)::bigint';

/** Unique for each entity. */
export function entityKey({ entityType, entityId }: EntityRef): Buffer {
  return digest(JSON.stringify([entityType, entityId]));
}

export function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Unchanged, except that NUL and the backslash are escaped with a backslash. */
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
