/** Confirmation before a change of data: a question on a terminal, `--yes` elsewhere. */
import { createInterface } from 'node:readline';
import { hostname, userInfo } from 'node:os';
import { ConfigError } from '../errors.ts';
import type { AuditEntry, Store } from '../stores/store.ts';
import { type CommandIo, flag } from './command.ts';

export const yesOption = flag('Do it without asking.');

/**
 * Whether the answer is yes; false also when `signal` is aborted or the terminal has hung up. The command then exits
 * with 1.
 *
 * @throws ConfigError without a terminal, so that the command exits with 2.
 */
export async function confirm(question: string, yes: boolean, io: CommandIo, signal?: AbortSignal): Promise<boolean> {
  if (yes) return true;
  if (!io.isTTY || !('isTTY' in io.stdin) || !io.stdin.isTTY) {
    throw new ConfigError(['there is no terminal to ask at: nothing was changed; add --yes to do it']);
  }
  await io.stdout.write(`${question} [y/N] `);
  const answer = await nextLine(io.stdin, signal);
  if (answer === null) await io.stdout.write('\n');
  if (answer !== null && /^y(es)?$/i.test(answer.trim())) return true;
  await io.stderr.write('inorder: nothing was changed\n');
  return false;
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

/** The operator's name for the audit trail. */
export function operatorName(): string {
  return `${userName()}@${hostname()}`;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container may run under a user id without a name.
    return String(process.getuid?.() ?? 'unknown');
  }
}

/** Writes an entry for a command into the audit trail, by default without an entity or a reason. */
export function audit({ operator }: Store, entry: Pick<AuditEntry, 'action' | 'what'> & Partial<AuditEntry>): Promise<void> {
  return operator.appendAudit([{ who: operatorName(), entityType: null, entityId: null, reason: '', ...entry }]);
}
