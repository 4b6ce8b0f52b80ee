/** `inorder entity list`: every entity of the stream, as the store hands them out. */
import { loadConfig } from '../config/load.ts';
import { printable, printableJson } from '../printable.ts';
import type { EntitySummary } from '../stores/store.ts';
import { defineCommand, jsonOption, storeVariables } from './command.ts';
import { withStore } from './store-access.ts';

export const command = defineCommand({
  name: 'entity list',
  summary: 'Every entity with its version, and why it is parked.',
  description: 'Streams the entities in no particular order; it ends early when the reader closes the pipe.',
  positionals: [],
  options: {
    type: { kind: 'value', placeholder: 'T', meaning: 'Only entities of this type.' },
    json: jsonOption,
  },
  variables: storeVariables,
  async run({ options }, io) {
    const config = loadConfig(io.env);
    const render = options.json ? asJson : asText;
    await withStore(config, io, async (store) => {
      for await (const entity of store.listEntities(options.type === null ? {} : { entityType: options.type })) {
        if (!(await io.stdout.write(render(entity)))) return;
      }
    });
    return 0;
  },
});

function asJson({ entityType, entityId, version, parked }: EntitySummary): string {
  return `${printableJson(JSON.stringify({ entity_type: entityType, entity_id: entityId, version, parked }))}\n`;
}

function asText({ entityType, entityId, version, parked }: EntitySummary): string {
  // Quoted, because an id may contain spaces.
  const name = printable(`${entityType} ${JSON.stringify(entityId)}`);
  return `${name} version ${version}${parked === null ? '' : ` parked (${parked.reason})`}\n`;
}
