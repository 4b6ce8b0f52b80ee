/** `inorder audit`: who changed what, when and why. */
import { loadConfig } from '../config/load.ts';
import { wholeNumber } from '../config/parsers.ts';
import { printable, printableJsonLine } from '../printable.ts';
import { auditFields, type AuditRecord } from '../stores/store.ts';
import { optionValue } from './arguments.ts';
import { defineCommand, jsonOption, storeVariables, value } from './command.ts';
import { withStore } from './access.ts';

export const command = defineCommand({
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
