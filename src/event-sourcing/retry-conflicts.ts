/** Optimistic concurrency: what lost the race for a version is tried again on what is there now, so often and no more. */
import { VersionConflictError } from '../errors.ts';
import { backOffMs, sleep, type Time } from '../time.ts';

const pauses = { initialMs: 4, maxMs: 100, leastShare: 0 };

/**
 * Pauses at random between attempts, longer each time, so that those who collided do not collide again.
 *
 * @throws VersionConflictError of the last attempt; at once whatever else an attempt throws.
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
