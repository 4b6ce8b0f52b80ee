/** `inorder events verify` and `inorder rebuild`: the workers' states, compared with the log or rebuilt from it. */
import { loadConfig } from '../config/load.ts';
import { entityText, grouped, printable } from '../printable.ts';
import { checkEntity, entitiesOf, type ReadSide, rebuildEntity } from '../event-sourcing/read-side.ts';
import { choiceText, type EntityChoice, entityChoice, isChosen, oneOf } from '../events/identity.ts';
import type { EntityRef } from '../events/event.ts';
import { ProgressDisplay } from './process-io.ts';
import { loadProcessors } from '../worker/operator-modules.ts';
import { type CommandIo, defineCommand, entityTypeOption, type ExitCode, eventStoreVariables } from './command.ts';
import { audit, confirm, yesOption } from './change.ts';
import { withEventStore, withStore } from './access.ts';

const variables = [...eventStoreVariables, 'STATE_STORE', 'PROCESSOR', 'ENTITY_TYPE'] as const;

export const verify = defineCommand({
  name: 'events verify',
  summary: 'Verifies that the events of every entity are contiguous, and that its state follows from them.',
  description: [
    'Folds the events of each entity with the aggregate of PROCESSOR up to the version that the workers have reached, and compares',
    'the state. Without ID: every entity. Exit code 1 when one is wrong, or has no aggregate and so cannot be verified; an entity',
    'whose events are not all applied yet is not wrong.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: { type: entityTypeOption },
  variables,
  async run({ positionals: [entityId], options }, io): Promise<ExitCode> {
    return withReadSide(io, async (side, defaultType, signal) => {
      const entities = chosenEntities(entityChoice(entityId, options.type, defaultType), side, signal);
      const { seen, count, withoutAggregate } = await each(entities, (entity) => checkEntity(entity, side), 'verified', io);
      await io.stdout.write(
        `${grouped(seen)} verified, ${grouped(count('wrong'))} wrong, ${grouped(count('behind'))} not applied to their end yet${withoutAggregate}\n`,
      );
      return count('wrong') + count('no-aggregate') > 0 || signal.aborted ? 1 : 0;
    });
  },
});

export const rebuild = defineCommand({
  name: 'rebuild',
  summary: 'Rebuilds the states of entities from their events while workers run.',
  description: [
    'For a changed aggregate, or a store that has lost data: folds the events of each entity with the aggregate of PROCESSOR and',
    'writes the state at the version of the entity; an entity that the store does not know gets all its events. If it is interrupted,',
    'run it again.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: { type: entityTypeOption, yes: yesOption },
  variables,
  async run({ positionals: [entityId], options }, io): Promise<ExitCode> {
    return withReadSide(io, async (side, defaultType, signal) => {
      const choice = entityChoice(entityId, options.type, defaultType);
      const what = choiceText(choice);
      if (!(await confirm(`Rebuild the states of ${printable(what)}?`, options.yes, io, signal))) return 1;
      await audit(side.store, { action: 'rebuild', what: `rebuilds the states of ${what}` });
      const { seen, count, withoutAggregate } = await each(
        chosenEntities(choice, side, signal),
        (entity) => rebuildEntity(entity, side),
        'looked at',
        io,
      );
      const [rebuilt, failed] = [count('rebuilt'), count('failed')];
      await io.stdout.write(
        `${grouped(rebuilt)} rebuilt, ${grouped(seen - rebuilt - failed)} unchanged, ${grouped(failed)} failed${withoutAggregate}\n`,
      );
      return failed + count('no-aggregate') > 0 || signal.aborted ? 1 : 0;
    });
  },
});

interface Counts {
  /** The number of entities with an aggregate. */
  readonly seen: number;
  readonly count: (status: string) => number;
  /** The end of the last line. */
  readonly withoutAggregate: string;
}

/** Does this for each entity, and prints problems at once. A type without an aggregate is named once. */
async function each(
  entities: AsyncIterable<EntityRef>,
  act: (entity: EntityRef) => Promise<{ readonly status: string; readonly problem?: string }>,
  verb: string,
  io: CommandIo,
): Promise<Counts> {
  const progress = new ProgressDisplay(io, verb);
  const counts = new Map<string, number>();
  const typesWithout = new Set<string>();
  let seen = 0;
  for await (const entity of entities) {
    const { status, problem } = await act(entity);
    counts.set(status, (counts.get(status) ?? 0) + 1);
    const isUnnamed = status === 'no-aggregate' && !typesWithout.has(entity.entityType);
    if (isUnnamed || problem !== undefined) progress.end();
    if (isUnnamed) await io.stderr.write(`inorder: ${printable(noAggregateText(entity, io))}\n`);
    if (problem !== undefined) await io.stdout.write(`${entityText(entity)}: ${printable(problem)}\n`);
    if (status === 'no-aggregate') typesWithout.add(entity.entityType);
    else progress.show(++seen);
  }
  progress.end();
  const count = (status: string) => counts.get(status) ?? 0;
  const without = count('no-aggregate');
  return { seen, count, withoutAggregate: without === 0 ? '' : `, ${grouped(without)} without an aggregate: nothing is said of them` };
}

function noAggregateText({ entityType }: EntityRef, { env: { PROCESSOR } }: CommandIo): string {
  const named = PROCESSOR === undefined ? 'PROCESSOR is not set, and the default' : `PROCESSOR ${PROCESSOR}`;
  return `${JSON.stringify(entityType)}: ${named} has no aggregate for entities of this type; set PROCESSOR (and ENTITY_TYPE) as the workers have it`;
}

type Use = (side: ReadSide, defaultType: string, signal: AbortSignal) => Promise<ExitCode>;

async function withReadSide(io: CommandIo, use: Use): Promise<ExitCode> {
  const config = loadConfig(io.env);
  const processors = await loadProcessors(config.processing);
  const signal = io.takeSignals();
  return withEventStore(config, io, (events) =>
    withStore(config, io, (store) => use({ events, store, processors, time: io.time }, config.processing.entityType, signal)),
  );
}

async function* chosenEntities(choice: EntityChoice, { events }: ReadSide, signal: AbortSignal): AsyncGenerator<EntityRef> {
  const one = oneOf(choice);
  if (one !== null) return yield one;
  for await (const entity of entitiesOf(events, signal)) if (isChosen(choice, entity)) yield entity;
}
