/**
 * Makes a user's handler idempotent: for a message that was processed before, the remembered result is
 * returned and the handler does not run.
 *
 *   begin ──started──▶ handler ──▶ complete ──▶ its result
 *     │                   └─throws─▶ release ──▶ its error: nothing is marked, the message may come again
 *     ├──done──────────────────────────────────▶ the remembered result
 *     └──in progress──▶ wait up to waitMs, begin again; then InProgressError
 *
 * Taking the lease is one atomic step, so only one of concurrent duplicates runs. A crash between the handler's effect and
 * `complete` is not covered: after the lease the message is processed again. To have effect and mark in one
 * step, use the worker with an aggregate.
 */
import { InorderError } from '../errors.ts';
import type { IdempotencyStore } from '../stores/idempotency-store.ts';
import { sleep, systemTime, type Time } from '../time.ts';
import { fingerprint } from '../events/identity.ts';
import { canonicalJson } from '../events/json-scanner.ts';

/** Another call is processing this message. Nothing was done; the message can be repeated later. */
export class InProgressError extends InorderError {
  readonly code = 'IN_PROGRESS';
  readonly retryable = true;
}

export interface IdempotentOptions<Message> {
  readonly store: IdempotencyStore;
  /** Default: the id of the message, or one derived from its content (`messageIdOf`). */
  readonly idOf?: (message: Message) => string;
  /** How long a duplicate waits for the running call, in milliseconds. Default 0: it fails at once. */
  readonly waitMs?: number;
  /** Default: the system's clock. */
  readonly time?: Time;
}

/** How often a waiting duplicate asks again, in milliseconds. */
const firstPauseMs = 10;
const longestPauseMs = 500;

/**
 * Wraps `handler`. Its result must survive JSON: a duplicate gets the result after a round trip through JSON, or undefined
 * if JSON cannot express it.
 *
 * Throws the handler's errors; `InProgressError`; `UnavailableError` when the store does not answer, also after the
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
    // The handler's error matters more; a lease that cannot be released ends by itself.
    await release().catch(() => {});
    throw error;
  }
}

/** A result that JSON cannot express is not remembered, but the message counts as processed. */
function asJson(result: unknown): string | null {
  try {
    return JSON.stringify(result) ?? null;
  } catch {
    return null;
  }
}

/**
 * The message's `id`, `messageId` or (a delivery of amqplib) `properties.messageId`. Without
 * one: the first 32 hex digits of the SHA-256 of its `content`, or of the canonical JSON of the whole message,
 * which is independent of the order of keys.
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
