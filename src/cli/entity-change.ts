/**
 * The commands that set versions. `inorder entity resync`: of one entity, when the store differs from the truth. `inorder entity
 * import`: of entities that have a history elsewhere, before their stream is adopted.
 */
import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { wholeNumber } from '../config/parsers.ts';
import { ConfigError, UnavailableError } from '../errors.ts';
import type { CommitResult } from '../ordering/entity.ts';
import { initialVersionOf } from '../ordering/facts.ts';
import { Holes } from '../ordering/holes.ts';
import { grouped } from '../printable.ts';
import { type EntityLine, entityLines } from '../publishing/text-lines.ts';
import { openInput } from '../publishing/open-input.ts';
import { placeOf, readInput } from '../publishing/read-input.ts';
import { snapshotsOf, batched, type Store } from '../stores/store.ts';
import { loadProcessors } from '../worker/operator-modules.ts';
import { withStore } from './access.ts';
import { optionValue, defineCommand, type ExitCode, storeVariables, value } from './command.ts';
import { audit, confirm, yesOption } from './change.ts';
import { ProgressDisplay } from './process-io.ts';

export const resync = defineCommand({
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

const batchSize = 500;

export const importEntities = defineCommand({
  name: 'entity import',
  summary: 'Sets the versions of entities that the store does not know: their next event is version + 1.',
  description: [
    'FILE has a JSON object per entity: entity_id, version, and optionally entity_type and state; one per line, over several lines,',
    'or all in one array; plain or packed with gzip. Without FILE or with - standard input is read. Without a state an entity of',
    'an aggregate in PROCESSOR begins with its initial state, one of a handler has none, and one of a type that',
    'PROCESSOR does not know is refused. An entity that the store knows at the same version is not changed; one at another',
    'version is refused (see `inorder entity resync`). It can be run again. Exit code 1 when a line was refused.',
  ].join('\n'),
  positionals: ['[FILE|-]'],
  options: {},
  variables: [...storeVariables, 'PROCESSOR', 'ENTITY_TYPE', 'MAX_ENTITY_ID_BYTES', 'MAX_JSON_DEPTH'],
  async run({ positionals: [path = '-'] }, io) {
    const config = loadConfig(io.env);
    const initialVersion = initialVersionOf(config.ordering.firstSequence);
    const signal = io.takeSignals();
    const input = await openInput(path, io.stdin, signal);
    const progress = new ProgressDisplay(io, 'imported');
    let refused = 0;
    const refuse = (line: number, problem: string) => {
      refused++;
      progress.say(`${placeOf(input, line)}: ${problem}`);
    };
    let imported = 0;
    let begun = 0;
    let known = 0;
    try {
      const texts = await readInput(input, {
        format: 'ndjson',
        map: new Map(),
        delimiter: null,
        remedy: 'it must be JSON, an object for each entity',
      });
      const lines = entityLines(texts, {
        defaultEntityType: config.processing.entityType,
        maxDepth: config.limits.maxJsonDepth,
        maxIdBytes: config.limits.maxEntityIdBytes,
        firstSequence: config.limits.firstSequence,
        onProblem: refuse,
      });
      await withStore(config, io, async (store) => {
        for await (const batch of batched(withInitialStates(lines, config, refuse), batchSize)) {
          if (signal.aborted) break;
          const results = await store.commit(batch.map((entity) => asCommit(entity, initialVersion, io.time.uuid())));
          results.forEach((result, index) => {
            const entity = batch[index]!;
            const problem = problemOf(result, entity);
            if (problem !== null) refuse(entity.line, problem);
            else if (result.status !== 'ok') known++;
            else [imported, begun] = [imported + 1, begun + (entity.begins ? 1 : 0)];
          });
          progress.show(imported);
        }
        await auditImport(store, imported, input.name);
      });
    } finally {
      progress.end();
      input.close();
    }
    const initial = begun === 0 ? '' : ` (${grouped(begun)} with the initial state of PROCESSOR ${config.processing.processor})`;
    await io.stdout.write(
      `${grouped(imported)} imported${initial}, ${grouped(known)} known before at the same version, ${grouped(refused)} refused\n`,
    );
    return refused > 0 || signal.aborted ? 1 : 0;
  },
});

interface ImportedEntity extends EntityLine {
  /** Whether its state is the initial one of its aggregate. */
  readonly begins: boolean;
}

/**
 * Without any state an entity counts as not created: an aggregate with `creates` would refuse its next event. PROCESSOR is
 * loaded when the first line needs it, and not at all if every line has a state.
 */
async function* withInitialStates(
  lines: AsyncIterable<EntityLine>,
  { processing }: Config,
  refuse: (line: number, problem: string) => void,
): AsyncGenerator<ImportedEntity> {
  let loading: ReturnType<typeof loadProcessors> | null = null;
  for await (const entity of lines) {
    const processors =
      entity.state === null ? await (loading ??= loadProcessors(processing)).then((all) => all.forType(entity.entityType)) : null;
    const aggregate = processors?.aggregate;
    if (entity.state !== null || (processors !== null && aggregate === null)) yield { ...entity, begins: false };
    else if (aggregate) yield { ...entity, state: aggregate.serialize(aggregate.initialState()), begins: true };
    else
      refuse(
        entity.line,
        `it has no state, and PROCESSOR ${processing.processor} has nothing for entities of type ${JSON.stringify(entity.entityType)}: give it a state, or set PROCESSOR as the workers have it`,
      );
  }
}

async function auditImport(store: Store, imported: number, from: string): Promise<void> {
  if (imported === 0) return;
  const what = `imported ${imported} entities from ${from}`;
  await audit(store, { action: 'import', what });
}

function asCommit({ entityType, entityId, version, state }: EntityLine, expectedVersion: number, unique: string) {
  const token = `operator:${unique}`;
  return { entityType, entityId, token, expectedVersion, expectedHoles: '', newVersion: version, newHoles: '', state, events: [] };
}

function problemOf(result: CommitResult, { version }: EntityLine): string | null {
  if (result.status === 'failed') return result.error.message;
  if (result.status !== 'stale' || result.snapshot.version === version) return null;
  return `the entity is at version ${result.snapshot.version} already, not at ${version}`;
}
