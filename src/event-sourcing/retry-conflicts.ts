/** Optimistic concurrency: what lost the race for a version is tried again on what is there now, so often and no more. */
import { setTimeout as sleep } from 'node:timers/promises';
import { VersionConflictError } from '../errors.ts';

const firstPauseMs = 2;
const longestPauseMs = 100;

/**
 * Pauses at random between attempts, longer each time, so that those who collided do not collide again.
 *
 * @throws VersionConflictError of the last attempt; at once whatever else an attempt throws.
 */
export async function retryConflicts<T>(maxAttempts: number, attempt: () => Promise<T>): Promise<T> {
  for (let made = 1; ; made++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof VersionConflictError) || made >= maxAttempts) throw error;
    }
    await sleep(Math.random() * Math.min(longestPauseMs, firstPauseMs * 2 ** made));
  }
}
