/**
 * Runs one handler for one event until it succeeds, fails for good, or the shard is lost.
 *
 *   attempt ──ok──▶ result
 *      │ throws, rejects, or HANDLER_TIMEOUT_MS is over
 *      ├─ PermanentError ───────────────▶ failed
 *      ├─ UnavailableError ─▶ back off ─▶ attempt   (without end: what it calls is away, the event is not at fault)
 *      ├─ attempts left ────▶ back off ─▶ attempt
 *      └─ RETRY_MAX_ATTEMPTS made ──────▶ failed
 *
 * An attempt that timed out may still be running when the next begins: its signal is aborted, and its
 * idempotency key is the same.
 */
import type { Handler } from '../aggregates/definition.ts';
import { describeThrown } from '../aggregates/thrown.ts';
import { UnavailableError } from '../errors.ts';
import type { Event } from '../events/event.ts';
import { backOffMs, sleep, type Time } from '../time.ts';

export interface RetryLimits {
  readonly maxAttempts: number;
  readonly initialMs: number;
  readonly maxMs: number;
  readonly timeoutMs: number;
}

export interface HandlerRun {
  readonly limits: RetryLimits;
  readonly headers: Readonly<Record<string, unknown>>;
  /** Aborted when the shard is lost or stops: the outcome is then nobody's business any more. */
  readonly life: AbortSignal;
  readonly time: Time;
  /** An attempt begins. */
  readonly onAttempt: () => void;
  readonly onRetry: (attempt: number, error: unknown) => void;
}

export type HandlerOutcome =
  | { readonly kind: 'ok'; readonly value: unknown }
  | { readonly kind: 'failed'; readonly detail: string; readonly stack: string | null }
  | { readonly kind: 'abandoned' };

export async function runHandler(handler: Handler, event: Event, run: HandlerRun): Promise<HandlerOutcome> {
  const { limits, life } = run;
  let counted = 0;
  for (let attempt = 1; ; attempt++) {
    if (life.aborted) return { kind: 'abandoned' };
    run.onAttempt();
    try {
      const value = await attemptOnce(handler, event, attempt, run);
      return { kind: 'ok', value };
    } catch (error) {
      if (life.aborted) return { kind: 'abandoned' };
      // By code and not by class: a processor's module may have brought a copy of the package of its own.
      const code = error instanceof Error && 'code' in error ? error.code : null;
      if (code === 'PERMANENT') return { kind: 'failed', ...describeThrown(error, event) };
      if (code !== 'UNAVAILABLE') counted++;
      if (counted >= limits.maxAttempts) {
        const { detail, stack } = describeThrown(error, event);
        return { kind: 'failed', detail: `${detail} (attempt ${attempt})`, stack };
      }
      run.onRetry(attempt, error);
      await sleep(run.time, backOffMs(limits, attempt, run.time), life);
    }
  }
}

function attemptOnce(handler: Handler, event: Event, attempt: number, run: HandlerRun): Promise<unknown> {
  const { timeoutMs } = run.limits;
  const abort = new AbortController();
  return new Promise((resolve, reject) => {
    // Whatever ends the attempt, nothing of it stays with the shard: a handler may never settle.
    const end = () => {
      timer.cancel();
      run.life.removeEventListener('abort', onLost);
    };
    const giveUp = (error: Error) => {
      end();
      abort.abort();
      reject(error);
    };
    const onLost = () => giveUp(new UnavailableError('the shard was lost'));
    const timer = run.time.after(timeoutMs, () => giveUp(new Error(`the handler did not finish within ${timeoutMs} ms`)));
    run.life.addEventListener('abort', onLost, { once: true });
    const context = { idempotencyKey: idempotencyKeyOf(event), attempt, signal: abort.signal, headers: run.headers };
    // Called within the promise chain, so that a synchronous throw is a failed attempt like any other.
    Promise.resolve()
      .then(() => handler.handle(event, context))
      .then(resolve, reject)
      .finally(end);
  });
}

/** `type:id:sequence`; for an event without a sequence its own id takes that place. */
export function idempotencyKeyOf(event: Event): string {
  return `${event.entityType}:${event.entityId}:${event.sequence ?? event.id}`;
}
