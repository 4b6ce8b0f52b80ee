/** `inorder events list`: the log of one entity, or of all, in order, from the event store or from the workers' logs of applied events. */
import { loadConfig } from '../config/load.ts';
import { printable, printableJson } from '../printable.ts';
import { readAppliedText } from '../events/event.ts';
import { choiceText, type EntityChoice, entityChoice, isChosen, oneOf } from '../events/identity.ts';
import type { EventStore, RecordedEvent } from '../stores/event-store.ts';
import type { Store } from '../stores/store.ts';
import { defineCommand, entityTypeOption, jsonOption, flag, eventStoreVariables } from './command.ts';
import { withEventStore, withStore } from './access.ts';

export const command = defineCommand({
  name: 'events list',
  summary: 'The events of one entity in the event store, in order; without ID, of all.',
  description: 'Exit code 1 when there are none. With --json events are printed completely, with their data as written.',
  positionals: ['[ID]'],
  options: {
    type: entityTypeOption,
    applied: flag('The events that workers have applied and kept (EVENT_LOG), instead of the event store.'),
    json: jsonOption,
  },
  variables: [...eventStoreVariables, 'STATE_STORE', 'EVENT_LOG', 'ENTITY_TYPE'],
  async run({ positionals: [entityId], options }, io) {
    const config = loadConfig(io.env);
    const choice = entityChoice(entityId, options.type, config.processing.entityType);
    let listed = 0;
    const list = async (lines: AsyncIterable<string>) => {
      for await (const line of lines) {
        listed++;
        if (!(await io.stdout.write(line))) return;
      }
    };
    const print = options.json ? asJson : asText;
    if (options.applied) await withStore(config, io, (store) => list(linesOf(appliedEvents(store, choice), print)));
    else await withEventStore(config, io, (events) => list(linesOf(storedEvents(events, choice), print)));
    if (listed > 0) return 0;
    const remedy = options.applied && !config.store.eventLog ? '; workers keep what they apply where EVENT_LOG is true' : '';
    await io.stderr.write(
      `inorder: there are no events${choice.entityType === null ? '' : ` of ${printable(choiceText(choice))}`}${remedy}\n`,
    );
    return 1;
  },
});

/** The printed fields of an event; an applied one has no position, and may have no time. */
type ListedEvent = Omit<RecordedEvent, 'position' | 'timestamp' | 'data'> & {
  readonly position?: number;
  readonly timestamp: string | null;
};

async function* linesOf(events: AsyncIterable<ListedEvent>, print: (event: ListedEvent) => string): AsyncGenerator<string> {
  for await (const event of events) yield print(event);
}

async function* storedEvents(events: EventStore, choice: EntityChoice): AsyncGenerator<ListedEvent> {
  const one = oneOf(choice);
  for await (const event of one === null ? events.readAll() : events.read(one)) if (isChosen(choice, event)) yield event;
}

async function* appliedEvents(store: Store, choice: EntityChoice): AsyncGenerator<ListedEvent> {
  const one = oneOf(choice);
  for await (const { entityType, entityId } of one === null ? store.listEntities({ entityType: choice.entityType ?? undefined }) : [one]) {
    for await (const text of store.readLog({ entityType, entityId })) yield { entityType, entityId, ...readAppliedText(text) };
  }
}

function asText({ sequence, timestamp, type, id }: ListedEvent): string {
  return printable(`${String(sequence).padStart(6)}  ${timestamp ?? '-'}  ${type}  ${id}`) + '\n';
}

/** With the data as written: large integers and `1.0` are kept. */
function asJson({ entityType, entityId, sequence, position, id, type, timestamp, dataJson, metadata }: ListedEvent): string {
  const head = JSON.stringify({ id, entity_type: entityType, entity_id: entityId, sequence, type, timestamp, position, metadata });
  return `${printableJson(`${head.slice(0, -1)},"data":${dataJson.replaceAll(/[\r\n]/g, ' ')}}`)}\n`;
}
