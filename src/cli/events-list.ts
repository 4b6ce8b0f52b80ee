/** `inorder events list`: the log of one entity, in order. */
import { loadConfig } from '../config/load.ts';
import { printable, printableJson } from '../dead-letters/printable.ts';
import type { RecordedEvent } from '../stores/event-store.ts';
import { defineCommand, jsonOption } from './command.ts';
import { eventStoreVariables, withEventStore } from './event-store-access.ts';

export const command = defineCommand({
  name: 'events list',
  summary: 'The events of one entity in the event store, in order.',
  description: 'Exit code 1 when there are none. With --json the events are printed whole, their data as they were written.',
  positionals: ['ID'],
  options: {
    type: { kind: 'value', placeholder: 'T', meaning: 'Type of the entity. Default: ENTITY_TYPE.' },
    json: jsonOption,
  },
  variables: [...eventStoreVariables, 'ENTITY_TYPE'],
  async run({ positionals: [entityId = ''], options }, io) {
    const config = loadConfig(io.env);
    const entity = { entityType: options.type ?? config.processing.entityType, entityId };
    const render = options.json ? asJson : asText;
    let listed = 0;
    await withEventStore(config, io, async (events) => {
      for await (const event of events.read(entity)) {
        listed++;
        if (!(await io.stdout.write(render(event)))) return;
      }
    });
    if (listed > 0) return 0;
    await io.stderr.write(`inorder: there are no events of ${printable(`${entity.entityType} ${JSON.stringify(entityId)}`)}\n`);
    return 1;
  },
});

function asText({ sequence, timestamp, type, id }: RecordedEvent): string {
  return printable(`${String(sequence).padStart(6)}  ${timestamp}  ${type}  ${id}`) + '\n';
}

/** The data as they were written: large integers and `1.0` stay as they are. */
function asJson({ entityType, entityId, sequence, position, id, type, timestamp, dataJson, metadata }: RecordedEvent): string {
  const head = JSON.stringify({ id, entity_type: entityType, entity_id: entityId, sequence, type, timestamp, position, metadata });
  return `${printableJson(`${head.slice(0, -1)},"data":${dataJson.replaceAll(/[\r\n]/g, ' ')}}`)}\n`;
}
