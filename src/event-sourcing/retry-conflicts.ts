/** Optimistic concurrency: repeats an attempt after a version conflict, a limited number of times. */
import { VersionConflictError } from '../errors.ts';
import { backOffMs, sleep, type Time } from '../time.ts';

const pauses = { initialMs: 4, maxMs: 100, leastShare: 0 };

/**
 * Random and growing pauses between the attempts keep the same writers from colliding again.
 *
 * @throws VersionConflictError of the last attempt; any other error at once.
 */
export async function retryConflicts<T>(time: Time, maxAttempts: number, attempt: () => Promise<T>): Promise<T> {
  for (let made = 1; ; made++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof VersionConflictError) || made >= maxAttempts) throw error;
    }
    await sleep(time, backOffMs(pauses, made, time));
  }
}
