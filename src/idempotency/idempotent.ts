/**
 * Makes a handler of one's own idempotent: for a message that was processed before, the remembered result is
 * returned and the handler does not run.
 *
 *   begin ──started──▶ handler ──▶ complete ──▶ its result
 *     │                   └─throws─▶ release ──▶ its error: nothing is marked, the message may come again
 *     ├──done──────────────────────────────────▶ the remembered result
 *     └──in progress──▶ wait up to waitMs, begin again; then InProgressError
 *
 * Taking the lease is one atomic step, so of concurrent duplicates one runs. A crash between the handler's effect and
 * `complete` is not covered: after the lease the message is processed again. Who needs effect and mark in one
 * step uses the worker with an aggregate.
 */
import { InorderError } from '../errors.ts';
import type { IdempotencyStore } from '../stores/idempotency-store.ts';
import { sleep, systemTime, type Time } from '../time.ts';
import { fingerprint } from '../events/identity.ts';
import { canonicalJson } from '../events/json-scanner.ts';

/** Another call is processing this message. Nothing was done; the same message can be given again later. */
export class InProgressError extends InorderError {
  readonly code = 'IN_PROGRESS';
  readonly retryable = true;
}

export interface IdempotentOptions<Message> {
  readonly store: IdempotencyStore;
  /** Default: the id that the message carries, or one derived from its content (`messageIdOf`). */
  readonly idOf?: (message: Message) => string;
  /** How long a duplicate waits for the one that is being processed, in milliseconds. Default 0: it is told at once. */
  readonly waitMs?: number;
  /** Default: that of the computer. */
  readonly time?: Time;
}

/** How often a waiting duplicate asks again, in milliseconds. */
const firstPauseMs = 10;
const longestPauseMs = 500;

/**
 * Wraps `handler`. What it returns must survive JSON: a duplicate gets what JSON makes of it, and undefined where
 * JSON makes nothing of it.
 *
 * Throws what the handler throws; `InProgressError`; `UnavailableError` when the store cannot be asked, also after the
 * handler has succeeded: then the message is not marked and will be processed again.
 */
export function idempotent<Message, Rest extends readonly unknown[], Result>(
  handler: (message: Message, ...rest: Rest) => Result | Promise<Result>,
  options: IdempotentOptions<Message>,
): (message: Message, ...rest: Rest) => Promise<Result> {
  const { store, idOf = messageIdOf, waitMs = 0, time = systemTime } = options;
  return async (message, ...rest) => {
    const id = idOf(message);
    const begun = await beginOrWait(store, id, waitMs, time);
    if (begun.status === 'done') return (begun.result === null ? undefined : JSON.parse(begun.result)) as Result;
    const result = await runLeased(
      () => handler(message, ...rest),
      () => store.release(id, begun.lease),
    );
    await store.complete(id, begun.lease, asJson(result));
    return result;
  };
}

async function beginOrWait(store: IdempotencyStore, id: string, waitMs: number, time: Time) {
  const untilMs = time.nowMs() + waitMs;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
    const begun = await store.begin(id);
    if (begun.status !== 'in-progress') return begun;
    const leftMs = untilMs - time.nowMs();
    if (leftMs <= 0) throw new InProgressError(`message ${JSON.stringify(id)} is being processed by another call`);
    await sleep(time, Math.min(pauseMs, leftMs));
  }
}

async function runLeased<Result>(run: () => Result | Promise<Result>, release: () => Promise<void>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    // The handler's error is what counts; a lease that cannot be given up ends by itself.
    await release().catch(() => {});
    throw error;
  }
}

/** What cannot be said in JSON is not remembered; that the message was processed is. */
function asJson(result: unknown): string | null {
  try {
    return JSON.stringify(result) ?? null;
  } catch {
    return null;
  }
}

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
