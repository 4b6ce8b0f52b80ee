/** What changes data asks first on a terminal, and elsewhere only does it with `--yes`. */
import { createInterface } from 'node:readline/promises';
import { hostname, userInfo } from 'node:os';
import type { CommandIo, FlagOption } from './command.ts';

export const yesOption = { kind: 'flag', meaning: 'Do it without asking.' } as const satisfies FlagOption;

/** Whether to go on. Where nobody can be asked, it says on standard error how to. */
export async function confirm(question: string, yes: boolean, io: CommandIo): Promise<boolean> {
  if (yes) return true;
  if (!io.isTTY || !('isTTY' in io.stdin) || !io.stdin.isTTY) {
    await io.stderr.write('inorder: nothing was changed: add --yes to do it\n');
    return false;
  }
  await io.stdout.write(`${question} [y/N] `);
  const lines = createInterface({ input: io.stdin });
  try {
    return /^y(es)?$/i.test((await lines.question('')).trim());
  } finally {
    lines.close();
  }
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
