/** `inorder entity import`: sets the versions of entities that have a history elsewhere, before their stream is adopted. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { grouped } from '../printable.ts';
import { initialVersionOf } from '../ordering/limits.ts';
import { type EntityLine, entityLines } from '../publishing/entity-lines.ts';
import { openInput } from '../publishing/open-input.ts';
import { ProgressDisplay } from './progress.ts';
import { placeOf, readInput } from '../publishing/read-input.ts';
import type { CommitResult } from '../ordering/entity.ts';
import { batched, type Store } from '../stores/store.ts';
import { loadProcessors } from '../worker/operator-modules.ts';
import { defineCommand, storeVariables } from './command.ts';
import { audit } from './confirm.ts';
import { withStore } from './access.ts';

const batchSize = 500;

export const command = defineCommand({
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
