/** `inorder entity resync`: sets the version of one entity when the store differs from the truth. */
import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { loadConfig } from '../config/load.ts';
import { wholeNumber } from '../config/parsers.ts';
import { snapshotsOf } from '../stores/store.ts';
import { ConfigError, UnavailableError } from '../errors.ts';
import { Holes } from '../ordering/holes.ts';
import { initialVersionOf } from '../ordering/limits.ts';
import { optionValue } from './arguments.ts';
import { defineCommand, type ExitCode, storeVariables, value } from './command.ts';
import { audit, confirm, yesOption } from './confirm.ts';
import { withStore } from './access.ts';

export const command = defineCommand({
  name: 'entity resync',
  summary: 'Sets the version of an entity: events up to it count as done.',
  description: [
    'For a store that lost commits, or an event that will never come. It processes nothing: events up to N are no longer applied',
    '(unseen ones that still arrive are late: dead-lettered, skipped or applied, by strategy), and N + 1 is the next event. The state is not changed',
    'unless --state is given. A version lower than the present one makes workers apply the events above it again.',
    'The parking of an entity ends once its version has passed its dead letters.',
  ].join('\n'),
  positionals: ['ID'],
  options: {
    type: value('T', 'Type of the entity. Default: ENTITY_TYPE.'),
    version: value('N', 'The new version, from 0; with FIRST_SEQUENCE=0 also --version=-1 (nothing applied). Required.'),
    state: value('FILE', 'A file with the new state. Default: not changed.'),
    reason: value('TEXT', 'Why, for the audit trail. Required.'),
    yes: yesOption,
  },
  variables: [...storeVariables, 'ENTITY_TYPE', 'MAX_STATE_BYTES'],
  async run({ positionals: [entityId = ''], options }, io): Promise<ExitCode> {
    const problems: string[] = [];
    if (options.version === null) problems.push('--version is missing: it must be a whole number from 0 up');
    if (options.reason === null || options.reason.trim() === '') problems.push('--reason is missing: say why, for the audit trail');
    if (problems.length > 0) throw new ConfigError(problems);
    const reason = options.reason ?? '';
    const config = loadConfig(io.env);
    const to = optionValue('--version', options.version ?? '', wholeNumber(initialVersionOf(config.ordering.firstSequence)));
    const state = options.state === null ? null : await readState(options.state, config.limits.maxStateBytes);
    const entity = { entityType: options.type ?? config.processing.entityType, entityId };
    return withStore(config, io, async (store): Promise<ExitCode> => {
      const [before] = await snapshotsOf(store, [entity]);
      const { version, holes } = before!;
      const what = `from version ${version} to ${to}${state === null ? '' : ', with another state'}`;
      await io.stdout.write(`${entity.entityType} ${JSON.stringify(entityId)}: ${what}\n`);
      if (!(await confirm('Set it?', options.yes, io))) return 1;
      const newHoles = Holes.parse(holes).resynced(version, to).toString();
      await audit(store, { action: 'resync', ...entity, what, reason });
      const token = `operator:${io.time.uuid()}`;
      const change = { expectedVersion: version, expectedHoles: holes, newVersion: to, newHoles, state, events: [] };
      const [result] = await store.commit([{ ...entity, token, ...change }]);
      if (result?.status !== 'ok') throw new UnavailableError('it has changed meanwhile: look at it again');
      return 0;
    });
  },
});

/** Without a line end at the end of the file. */
async function readState(path: string, maxBytes: number): Promise<string> {
  const bytes = await readFile(path).catch((cause: Error) => {
    throw new ConfigError([`--state ${path} cannot be read: ${cause.message}`], { cause });
  });
  if (!isUtf8(bytes)) throw new ConfigError([`--state ${path} is not valid UTF-8`]);
  const state = bytes.toString().replace(/\r?\n$/, '');
  if (state === '') throw new ConfigError([`--state ${path} is empty`]);
  if (Buffer.byteLength(state) > maxBytes) throw new ConfigError([`--state ${path} is longer than ${maxBytes} bytes (MAX_STATE_BYTES)`]);
  return state;
}
