/**
 * A change of data by an operator: confirmed first (a question on a terminal, `--yes` elsewhere), recorded in the audit trail, and
 * listed by `inorder audit`.
 */
import { hostname, userInfo } from 'node:os';
import { createInterface } from 'node:readline';
import { loadConfig } from '../config/load.ts';
import { wholeNumber } from '../config/parsers.ts';
import { ConfigError } from '../errors.ts';
import { printable, printableJsonLine } from '../printable.ts';
import { type AuditEntry, type Store, auditFields, type AuditRecord } from '../stores/store.ts';
import { withStore } from './access.ts';
import { optionValue, type CommandIo, flag, defineCommand, jsonOption, storeVariables, value } from './command.ts';

export const yesOption = flag('Do it without asking.');
export const whyOption = value('TEXT', 'Why, for the audit trail. Required.');

/** @throws ConfigError when `whyOption` was not given, or is blank. */
export function requiredWhy(why: string | null): string {
  if (why === null || why.trim() === '') throw new ConfigError(['--why is missing: say why, for the audit trail']);
  return why;
}

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

export const auditTrail = defineCommand({
  name: 'audit',
  summary: 'Who replayed, discarded, skipped, resynced, imported or resumed what, and why; the latest first.',
  description: 'Lists every change that operators made to data. The latest 100,000 are kept.',
  positionals: [],
  options: {
    entity: value('ID', 'Only of this entity.'),
    limit: value('N', 'Most entries to print. Default: all.'),
    json: jsonOption,
  },
  variables: storeVariables,
  async run({ options }, io) {
    const limit = options.limit === null ? Number.POSITIVE_INFINITY : optionValue('--limit', options.limit, wholeNumber(1));
    const render = options.json ? (record: AuditRecord) => printableJsonLine(auditFields(record)) : asText;
    let printed = 0;
    await withStore(loadConfig(io.env), io, async (store) => {
      for await (const record of store.operator.readAudit()) {
        if (options.entity !== null && record.entityId !== options.entity) continue;
        if (!(await io.stdout.write(render(record))) || ++printed >= limit) return;
      }
    });
    if (printed === 0) await io.stderr.write('inorder: nothing was changed by an operator\n');
    return 0;
  },
});

function asText({ at, who, action, entityType, entityId, what, reason }: AuditRecord): string {
  const entity = entityId === null ? '' : ` ${entityType} ${entityId}`;
  return `${at.replace(/\.\d+Z$/, 'Z')}  ${printable(`${who}  ${action}${entity}: ${what}${reason === '' ? '' : ` (${reason})`}`)}\n`;
}
