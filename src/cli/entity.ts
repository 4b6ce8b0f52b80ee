/** `inorder entity show` and `list`: what the store knows of one entity, with the exact stored state, and of all entities. */
import { loadConfig } from '../config/load.ts';
import { printable, entityText, printableJsonLine } from '../printable.ts';
import { UnavailableError } from '../errors.ts';
import { entityFields, type EntityRef } from '../events/event.ts';
import { askWorker, heldBy } from '../observability/worker-status.ts';
import { shellWord } from '../publishing/field-map.ts';
import type { Snapshot } from '../ordering/entity.ts';
import { batched, snapshotsOf, type Store, type EntitySummary } from '../stores/store.ts';
import {
  type CommandIo,
  defineCommand,
  type ExitCode,
  flag,
  jsonOption,
  value,
  storeVariables,
  stateStoreVariables,
  httpVariables,
} from './command.ts';
import { withStore } from './access.ts';

export const show = defineCommand({
  name: 'entity show',
  summary: 'Version, state, parked and held of one entity.',
  description: [
    'Prints what the store knows of an entity; exit code 1 when nothing of it was applied and it is not parked: events refused',
    'before that are only in the dead-letter queue (`inorder dead-letters list --entity ID`).',
    'With --json the state is the stored text, byte for byte; without it control characters are escaped.',
    '`held` comes from the worker at HTTP_HOST and HTTP_PORT; it is null when no worker answers there or when',
    'another one may own the entity.',
  ].join('\n'),
  positionals: ['ID'],
  options: {
    type: value('T', 'Type of the entity. Default: ENTITY_TYPE.'),
    json: jsonOption,
  },
  variables: [...stateStoreVariables, 'ENTITY_TYPE', ...httpVariables],
  async run({ positionals: [entityId], options }, io) {
    const config = loadConfig(io.env);
    const entity = { entityType: options.type ?? config.processing.entityType, entityId: entityId! };
    const [{ snapshot, elsewhere }, report] = await Promise.all([
      withStore(config, io, async (store) => {
        const snapshot = await load(store, entity);
        return { snapshot, elsewhere: isKnown(snapshot) ? '' : await whereElse(store, entity) };
      }),
      askWorker(config, io.time),
    ]);
    if (!isKnown(snapshot)) {
      await io.stderr.write(
        `inorder: there is no ${printable(`${entity.entityType} ${JSON.stringify(entityId)} in the store${elsewhere}`)}\n`,
      );
      return 1;
    }
    const held = heldBy(report, entity, config.broker.shards);
    await io.stdout.write(options.json ? asJson(entity, snapshot, held) : asText(entity, snapshot, held));
    return 0;
  },
});

async function load(store: Store, entity: EntityRef): Promise<Snapshot> {
  const [result] = await store.load([entity]);
  if (result?.status === 'ok') return result.snapshot;
  throw new UnavailableError(`the entity cannot be read: ${result?.error.message ?? 'the store gave no answer'}`);
}

/** An entity may be parked before any event was applied. */
function isKnown({ exists, parked }: Snapshot): boolean {
  return exists || parked !== null;
}

/** The most entities to search for one with the same id. */
const maxSearched = 100_000;

async function whereElse(store: Store, { entityId }: EntityRef): Promise<string> {
  const types: string[] = [];
  let searched = 0;
  for await (const entity of store.listEntities({})) {
    if (entity.entityId === entityId) types.push(entity.entityType);
    if (++searched === maxSearched) break;
  }
  if (types.length > 0)
    return `; there is ${types.map((type) => `${type} ${JSON.stringify(entityId)} (--type ${shellWord(type)})`).join(', ')}`;
  const bound = searched === maxSearched ? `, nor one of another type among the first ${maxSearched.toLocaleString('en')} entities` : '';
  return `${bound}; whether anything of it was refused: inorder dead-letters list --entity ${shellWord(entityId)}`;
}

type Field = readonly [name: string, json: string];

function asJson(entity: EntityRef, { version, state, parked }: Snapshot, held: number | null): string {
  return jsonObject([
    ...naming(entity, version),
    ['state', state === null ? 'null' : stateAsJson(state)],
    ['parked', JSON.stringify(parked)],
    ['held', JSON.stringify(held)],
  ]);
}

function naming({ entityType, entityId }: EntityRef, version: number): readonly Field[] {
  return [
    ['entity_type', JSON.stringify(entityType)],
    ['entity_id', JSON.stringify(entityId)],
    ['version', String(version)],
  ];
}

/** Joined as text: parsing a state would change large numbers and the notation of floats. */
function jsonObject(fields: readonly Field[]): string {
  return `{${fields.map(([name, json]) => `"${name}":${json}`).join(',')}}\n`;
}

/** A state that is not JSON is shown as a string. */
function stateAsJson(state: string): string {
  try {
    JSON.parse(state);
    return state;
  } catch {
    return JSON.stringify(state);
  }
}

function asText({ entityType, entityId }: EntityRef, snapshot: Snapshot, held: number | null): string {
  const { version, state, holes, parked } = snapshot;
  const rows: (readonly [string, string])[] = [
    ['entity', `${entityType} ${JSON.stringify(entityId)}`],
    ['version', String(version)],
    ...(holes === '' ? [] : [['holes', holes] as const]),
    ['parked', parked === null ? 'no' : `since ${parked.at}, at sequence ${parked.sequence}: ${parked.reason} (${parked.detail})`],
    ['held', held === null ? 'not known here' : String(held)],
    ['state', state ?? 'none'],
  ];
  return rows.map(([name, text]) => `${name.padEnd(9)}${printable(text)}\n`).join('');
}

export const list = defineCommand({
  name: 'entity list',
  summary: 'Every entity with its version, and why it is parked.',
  description: [
    'Prints the entities in no particular order; it ends early when the reader closes the pipe.',
    'With --states each line is what `inorder entity import` of another stream or store takes: the version, and the stored state byte for',
    'byte. Left out, and named with exit code 1, are parked entities (replay or discard their dead letters before) and those with holes.',
  ].join('\n'),
  positionals: [],
  options: {
    type: value('T', 'Only entities of this type.'),
    states: flag('Print entities with their states, as JSON lines for `entity import`.'),
    json: jsonOption,
  },
  variables: storeVariables,
  async run({ options }, io) {
    const config = loadConfig(io.env);
    const render = options.json ? summaryJson : summaryText;
    return withStore(config, io, async (store): Promise<ExitCode> => {
      const entities = store.listEntities(options.type === null ? {} : { entityType: options.type });
      if (options.states) return listStates(store, entities, io);
      for await (const entity of entities) if (!(await io.stdout.write(render(entity)))) break;
      return 0;
    });
  },
});

async function listStates(store: Store, entities: AsyncIterable<EntitySummary>, io: CommandIo): Promise<ExitCode> {
  let isWhole = true;
  const lose = async (entity: EntityRef, what: string) => {
    isWhole = false;
    await io.stderr.write(`inorder: ${entityText(entity)} ${what}\n`);
  };
  for await (const batch of batched(entities, 500)) {
    for (const [index, { version, state, holes, parked }] of (await snapshotsOf(store, batch)).entries()) {
      const entity = batch[index]!;
      if (parked !== null) await lose(entity, 'is left out: it is parked');
      else if (state !== null && stateAsJson(state) !== state) await lose(entity, 'is left out: its state is no JSON');
      else if (holes !== '')
        await lose(entity, `is left out: it has holes (${holes}), and an import would take their events for duplicates`);
      else if (!(await io.stdout.write(jsonObject([...naming(entity, version), ['state', state ?? 'null']])))) return 0;
    }
  }
  return isWhole ? 0 : 1;
}

function summaryJson({ version, parked, ...entity }: EntitySummary): string {
  return printableJsonLine({ ...entityFields(entity), version, parked });
}

function summaryText({ version, parked, ...entity }: EntitySummary): string {
  return `${entityText(entity)} version ${version}${parked === null ? '' : ` parked (${parked.reason})`}\n`;
}
