/** `inorder entity import`: tells the store of entities that have a history elsewhere, before their stream is adopted. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { grouped } from '../printable.ts';
import { initialVersionOf } from '../ordering/limits.ts';
import { type EntityLine, entityLines } from '../publishing/entity-lines.ts';
import { openInput } from '../publishing/open-input.ts';
import { ProgressDisplay } from './progress.ts';
import { placeOf, readInput } from '../publishing/read-input.ts';
import type { CommitResult } from '../ordering/entity.ts';
import type { Store } from '../stores/store.ts';
import { loadProcessors } from '../worker/processor-module.ts';
import { defineCommand, storeVariables } from './command.ts';
import { audit } from './confirm.ts';
import { withStore } from './access.ts';

const batchSize = 500;

export const command = defineCommand({
  name: 'entity import',
  summary: 'Sets the versions of entities that are not known yet: their next event is version + 1.',
  description: [
    'FILE has a JSON object for each entity: entity_id, version, and where wanted entity_type and state; one per line, each over',
    'several, or all in one array; packed with gzip or not. Without FILE or with - it comes from standard input. Without a state:',
    'an entity of an aggregate in PROCESSOR begins with its initial state; one of a handler has no state; one of a type that',
    'PROCESSOR does not know is refused. An entity that the store knows at the same version is left as it is; one at another',
    'version is refused (see `inorder entity resync`). Safe to run again. Exit code 1 when a line was refused.',
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
        for await (const batch of batched(withInitialStates(lines, config, refuse))) {
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
  /** Its state is the initial one of its aggregate. */
  readonly begins: boolean;
}

/**
 * Without a state an entity has none of its events: an aggregate that is created by certain ones would take no other. PROCESSOR is
 * loaded when the first line needs it; lines that all bring their states need none.
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

async function* batched<T>(source: AsyncIterable<T>): AsyncGenerator<T[]> {
  let batch: T[] = [];
  for await (const element of source) {
    batch.push(element);
    if (batch.length < batchSize) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
