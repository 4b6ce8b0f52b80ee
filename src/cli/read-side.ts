/** `inorder events verify` and `inorder rebuild`: the workers' states, compared with the log or rebuilt from it. */
import { loadConfig } from '../config/load.ts';
import { printable } from '../printable.ts';
import { checkEntity, entitiesOf, type ReadSide, rebuildEntity } from '../event-sourcing/read-side.ts';
import { choiceText, type EntityChoice, entityChoice, isChosen, oneOf } from '../events/entity-choice.ts';
import type { EntityRef } from '../events/event.ts';
import { grouped } from '../publishing/progress-line.ts';
import { loadProcessors } from '../worker/processor-module.ts';
import { type CommandIo, defineCommand, entityTypeOption, type ExitCode } from './command.ts';
import { confirm, operatorName, yesOption } from './confirm.ts';
import { CountDisplay } from './count-display.ts';
import { eventStoreVariables, withEventStore, withStore } from './store-access.ts';

const variables = [...eventStoreVariables, 'STATE_STORE', 'PROCESSOR', 'ENTITY_TYPE'] as const;

export const verify = defineCommand({
  name: 'events verify',
  summary: 'Whether every entity is what its events make of it: contiguous, and its state by the aggregate.',
  description: [
    'Folds the events of each entity with the aggregate of PROCESSOR up to the version that the workers have reached, and compares',
    'the state. Without ID: every entity. Exit code 1 when one is wrong, or has no aggregate and so cannot be verified; one that the',
    'workers have not caught up with is right.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: { type: entityTypeOption },
  variables,
  async run({ positionals: [entityId], options }, io): Promise<ExitCode> {
    return withReadSide(io, async (side, defaultType, signal) => {
      const progress = new CountDisplay(io, 'verified');
      const without = new WithoutAggregate(io, progress);
      let [checked, behind, wrong] = [0, 0, 0];
      for await (const entity of chosenEntities(entityChoice(entityId, options.type, defaultType), side, signal)) {
        const check = await checkEntity(entity, side);
        if (check.status === 'no-aggregate') {
          await without.pass(entity);
          continue;
        }
        checked++;
        if (check.status === 'behind') behind++;
        if (check.status === 'wrong') {
          wrong++;
          progress.end();
          await io.stdout.write(`${nameOf(entity)}: ${printable(check.problem)}\n`);
        }
        progress.show(checked);
      }
      progress.end();
      await io.stdout.write(
        `${grouped(checked)} verified, ${grouped(wrong)} wrong, ${grouped(behind)} not applied to their end yet${without.counted}\n`,
      );
      return wrong > 0 || without.count > 0 || signal.aborted ? 1 : 0;
    });
  },
});

export const rebuild = defineCommand({
  name: 'rebuild',
  summary: 'Rebuilds the states of entities from their events while workers run.',
  description: [
    'For a changed aggregate, or a store that has lost something: folds the events of each entity with the aggregate of PROCESSOR and',
    'writes the state at the version that the entity has; what the store does not know gets all of its events. After an interruption run it again.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: { type: entityTypeOption, yes: yesOption },
  variables,
  async run({ positionals: [entityId], options }, io): Promise<ExitCode> {
    return withReadSide(io, async (side, defaultType, signal, audit) => {
      const choice = entityChoice(entityId, options.type, defaultType);
      const what = choiceText(choice);
      if (!(await confirm(`Rebuild the states of ${printable(what)}?`, options.yes, io, signal))) return 1;
      await audit(what);
      const progress = new CountDisplay(io, 'looked at');
      const without = new WithoutAggregate(io, progress);
      let [seen, rebuilt, failed] = [0, 0, 0];
      for await (const entity of chosenEntities(choice, side, signal)) {
        const result = await rebuildEntity(entity, side);
        if (result.status === 'no-aggregate') {
          await without.pass(entity);
          continue;
        }
        seen++;
        if (result.status === 'rebuilt') rebuilt++;
        if (result.status === 'failed') {
          failed++;
          progress.end();
          await io.stdout.write(`${nameOf(entity)}: ${printable(result.problem)}\n`);
        }
        progress.show(seen);
      }
      progress.end();
      await io.stdout.write(
        `${grouped(rebuilt)} rebuilt, ${grouped(seen - rebuilt - failed)} unchanged, ${grouped(failed)} failed${without.counted}\n`,
      );
      return failed > 0 || without.count > 0 || signal.aborted ? 1 : 0;
    });
  },
});

/** Entities of which nothing can be said: each type is named once. */
class WithoutAggregate {
  count = 0;
  readonly #io: CommandIo;
  readonly #progress: CountDisplay;
  readonly #types = new Set<string>();

  constructor(io: CommandIo, progress: CountDisplay) {
    this.#io = io;
    this.#progress = progress;
  }

  async pass({ entityType }: EntityRef): Promise<void> {
    this.count++;
    if (this.#types.has(entityType)) return;
    this.#types.add(entityType);
    this.#progress.end();
    const { PROCESSOR: processor } = this.#io.env;
    const named = processor === undefined ? 'PROCESSOR is not set, and the default' : `PROCESSOR ${processor}`;
    const line = `${JSON.stringify(entityType)}: ${named} has no aggregate for entities of this type; set PROCESSOR (and ENTITY_TYPE) as the workers have it`;
    await this.#io.stderr.write(`inorder: ${printable(line)}\n`);
  }

  /** For the last line. */
  get counted(): string {
    return this.count === 0 ? '' : `, ${grouped(this.count)} without an aggregate: nothing is said of them`;
  }
}

type Use = (side: ReadSide, defaultType: string, signal: AbortSignal, audit: (what: string) => Promise<void>) => Promise<ExitCode>;

async function withReadSide(io: CommandIo, use: Use): Promise<ExitCode> {
  const config = loadConfig(io.env);
  const processors = await loadProcessors(config.processing);
  const signal = io.takeSignals();
  return withEventStore(config, io, (events) =>
    withStore(config, io, (store) => {
      const audit = (what: string) =>
        store.operator.appendAudit([
          {
            action: 'rebuild',
            who: operatorName(),
            entityType: null,
            entityId: null,
            what: `rebuilds the states of ${what}`,
            reason: '',
          },
        ]);
      return use({ events, store, processors, time: io.time }, config.processing.entityType, signal, audit);
    }),
  );
}

async function* chosenEntities(choice: EntityChoice, { events }: ReadSide, signal: AbortSignal): AsyncGenerator<EntityRef> {
  const one = oneOf(choice);
  if (one !== null) return yield one;
  for await (const entity of entitiesOf(events, signal)) if (isChosen(choice, entity)) yield entity;
}

function nameOf({ entityType, entityId }: EntityRef): string {
  return printable(`${entityType} ${JSON.stringify(entityId)}`);
}
