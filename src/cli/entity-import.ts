/** `inorder entity import`: tells the store of entities that have a history elsewhere, before their stream is adopted. */
import { randomUUID } from 'node:crypto';
import { loadConfig } from '../config/load.ts';
import type { EntityLine } from '../publishing/entity-lines.ts';
import { entityLines } from '../publishing/entity-lines.ts';
import { jsonTexts } from '../publishing/json-texts.ts';
import { openInput } from '../publishing/open-input.ts';
import { grouped } from '../publishing/progress-line.ts';
import { readLines } from '../publishing/text-lines.ts';
import type { CommitResult, Store } from '../stores/store.ts';
import { defineCommand, storeVariables } from './command.ts';
import { operatorName } from './confirm.ts';
import { CountDisplay } from './count-display.ts';
import { withStore } from './store-access.ts';

const batchSize = 500;

export const command = defineCommand({
  name: 'entity import',
  summary: 'Sets the versions of entities that are not known yet: their next event is version + 1.',
  description: [
    'FILE has a JSON object per line: entity_id, version, and where wanted entity_type and state; without FILE or with - it',
    'comes from standard input. An entity that the store knows at the same version is left as it is; one at another version',
    'is refused (see `inorder entity resync`). Safe to run again. Exit code 1 when a line was refused.',
  ].join('\n'),
  positionals: ['[FILE|-]'],
  options: {},
  variables: [...storeVariables, 'ENTITY_TYPE', 'MAX_ENTITY_ID_BYTES', 'MAX_JSON_DEPTH'],
  async run({ positionals: [path = '-'] }, io) {
    const config = loadConfig(io.env);
    const signal = io.takeSignals();
    const input = await openInput(path, io.stdin, signal);
    let refused = 0;
    const refuse = (line: number, problem: string) => {
      refused++;
      void io.stderr.write(`inorder: line ${line}: ${problem}\n`);
    };
    const lines = entityLines(jsonTexts(readLines(input.bytes)), {
      defaultEntityType: config.processing.entityType,
      maxDepth: config.limits.maxJsonDepth,
      maxIdBytes: config.limits.maxEntityIdBytes,
      onProblem: refuse,
    });
    const progress = new CountDisplay(io, 'imported');
    let imported = 0;
    let known = 0;
    try {
      await withStore(config, io.stderr, async (store) => {
        for await (const batch of batched(lines)) {
          if (signal.aborted) break;
          const results = await store.commit(batch.map(asCommit));
          results.forEach((result, index) => {
            const entity = batch[index]!;
            const problem = problemOf(result, entity);
            if (problem !== null) refuse(entity.line, problem);
            else if (result.status === 'ok') imported++;
            else known++;
          });
          progress.show(imported);
        }
        await auditImport(store, imported, input.name);
      });
    } finally {
      progress.end();
      input.close();
    }
    await io.stdout.write(`${grouped(imported)} imported, ${grouped(known)} known before at the same version, ${grouped(refused)} refused\n`);
    return refused > 0 || signal.aborted ? 1 : 0;
  },
});

async function auditImport(store: Store, imported: number, from: string): Promise<void> {
  if (imported === 0) return;
  const what = `imported ${imported} entities from ${from}`;
  await store.operator.appendAudit([{ action: 'import', who: operatorName(), entityType: null, entityId: null, what, reason: '' }]);
}

function asCommit({ entityType, entityId, version, state }: EntityLine) {
  const token = `operator:${randomUUID()}`;
  return { entityType, entityId, token, expectedVersion: 0, expectedHoles: '', newVersion: version, newHoles: '', state, events: [] };
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
