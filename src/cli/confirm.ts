/** What changes data asks first on a terminal, and elsewhere only does it with `--yes`. */
import { createInterface } from 'node:readline';
import { hostname, userInfo } from 'node:os';
import type { CommandIo, FlagOption } from './command.ts';

export const yesOption = { kind: 'flag', meaning: 'Do it without asking.' } as const satisfies FlagOption;

/**
 * Whether to go on: only after a yes, and no longer once `signal` is aborted or the terminal has hung up. Where nobody
 * can be asked, it says on standard error how to.
 */
export async function confirm(question: string, yes: boolean, io: CommandIo, signal?: AbortSignal): Promise<boolean> {
  if (yes) return true;
  if (!io.isTTY || !('isTTY' in io.stdin) || !io.stdin.isTTY) {
    await io.stderr.write('inorder: nothing was changed: add --yes to do it\n');
    return false;
  }
  await io.stdout.write(`${question} [y/N] `);
  const answer = await nextLine(io.stdin, signal);
  if (answer === null) await io.stdout.write('\n');
  return answer !== null && /^y(es)?$/i.test(answer.trim());
}

/** Null: the input has ended, or `signal` was aborted. */
function nextLine(input: NodeJS.ReadableStream, signal?: AbortSignal): Promise<string | null> {
  if (signal?.aborted) return Promise.resolve(null);
  return new Promise((resolve) => {
    const lines = createInterface({ input });
    const end = () => lines.close();
    signal?.addEventListener('abort', end, { once: true });
    lines.once('close', () => {
      signal?.removeEventListener('abort', end);
      resolve(null);
    });
    lines.once('line', (line) => {
      resolve(line);
      lines.close();
    });
  });
}

/** Who is at the command line, for the audit trail. */
export function operatorName(): string {
  return `${userName()}@${hostname()}`;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container may run under a number that has no name.
    return String(process.getuid?.() ?? 'unknown');
  }
}
