/** A program that is no test and starts services for as long as it runs, such as a soak: whatever it has started ends with it. */
import { constants } from 'node:os';
import type { Owner } from './services.ts';

/**
 * Runs to the end or to a signal, ends what was started, the last first (clients before the services that they use), and sets the exit
 * code: 0 without problems, 1 with some, 2 after an error, which is told, and 130 or 143 after a signal.
 */
export async function runToItsEnd(run: (owner: Owner) => Promise<readonly string[]>): Promise<void> {
  const ends: (() => unknown)[] = [];
  const endAll = async () => {
    for (let end = ends.pop(); end !== undefined; end = ends.pop()) await end();
  };
  // What fails after a signal fails for it.
  let interrupted = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      interrupted = true;
      void endAll().finally(() => process.exit(128 + constants.signals[signal]));
    });
  }
  try {
    const problems = await run({ after: (end) => void ends.push(end) });
    process.exitCode = problems.length === 0 ? 0 : 1;
  } catch (error) {
    if (!interrupted) process.stderr.write(`${(error as Error).stack}\n`);
    process.exitCode = 2;
  } finally {
    await endAll();
  }
}
