/** Asks a store again that is away for a moment; only for questions that may be asked twice. */
import { setTimeout as sleep } from 'node:timers/promises';
import { UnavailableError } from '../errors.ts';

const pauseMs = 200;

/** @throws UnavailableError when it is still away after `timeoutMs`, or `signal` is aborted. */
export async function patiently<T>(ask: () => Promise<T>, timeoutMs: number, signal?: AbortSignal): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof UnavailableError) || signal?.aborted || performance.now() > deadlineMs) throw error;
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
