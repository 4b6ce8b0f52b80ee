/**
 * The log of events. `inorder events list` prints it, of one entity or of all, in order, from the event store or from the workers'
 * logs of applied events. `inorder events append` appends to the event store what a file or standard input holds; each line is
 * appended, known, or refused. `inorder relay` publishes what the event store holds, until the first signal.
 */
import { type Config, connectionName } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { ConfigError } from '../errors.ts';
import { appendEach, type IdentifiedEvent } from '../stores/append-rules.ts';
import { runRelay } from '../event-sourcing/relay.ts';
import { readAppliedText } from '../events/event.ts';
import { choiceText, type EntityChoice, entityChoice, isChosen, oneOf } from '../events/identity.ts';
import { printable, printableJson, grouped } from '../printable.ts';
import { lineEvents, type LineEvent } from '../publishing/line-events.ts';
import { openInput } from '../publishing/open-input.ts';
import { readingRequest } from '../publishing/publish-request.ts';
import { placeOf, readInput, type ReadingRequest, textsOf } from '../publishing/read-input.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { createAmqpPublisher } from '../rabbitmq/publisher.ts';
import type { EventStore, RecordedEvent } from '../stores/event-store.ts';
import { openEventStore, openRelayLeases } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import { processLog, withEventStore, withStore } from './access.ts';
import { brokerVariables, defineCommand, entityTypeOption, jsonOption, flag, eventStoreVariables, eventLimitVariables } from './command.ts';
import { ProgressDisplay } from './process-io.ts';
import { inputFormatsText, inputOptions } from './publish.ts';

export const listEvents = defineCommand({
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

/** The most consecutive lines of one entity that are appended together. */
const maxTogether = 100;

export const appendEvents = defineCommand({
  name: 'events append',
  summary: 'Appends events from a file or standard input to the event store.',
  description: [
    'Sequences in the input are ignored: the log assigns them. A line whose id the log has for its entity, with the same type, data and',
    'time, is known and changes nothing, so a file that has grown can be appended again. A line with a known id and other content is',
    'refused, and so is one that a worker would refuse; later lines of the entity are appended all the same. An event without an id is',
    'identified by its content and its place among the events of its entity in the file; a message says how many such lines were known.',
    'Exit code 1 when a line was refused.',
    '',
    inputFormatsText,
  ].join('\n'),
  positionals: ['[FILE|-]'],
  options: inputOptions,
  variables: [...eventStoreVariables, 'ENTITY_TYPE', ...eventLimitVariables],
  async run({ positionals: [path = '-'], options }, io) {
    const wrong: string[] = [];
    const request = readingRequest(path, options, wrong);
    if (wrong.length > 0) throw new ConfigError(wrong);
    const config = loadConfig(io.env);
    const signal = io.takeSignals();
    const input = await openInput(path, io.stdin, signal);
    const progress = new ProgressDisplay(io, 'appended');
    const counts = { appended: 0, known: 0, refused: 0, knownByContent: 0 };
    const refuse = (line: number, problem: string) => {
      counts.refused++;
      progress.say(`${placeOf(input, line)}: ${problem}`);
    };
    try {
      const texts = await readInput(input, request);
      const lines = lineEvents(texts, { ...readingOf(request, config), onProblem: refuse });
      await withEventStore(config, io, async (events) => {
        for await (const together of runsOf(lines)) {
          if (signal.aborted) break;
          const fates = await appendEach(events, together[0]!.event, together.map(eventOf));
          for (const [index, fate] of fates.entries()) {
            const { line, event } = together[index]!;
            if (typeof fate === 'object') refuse(line, fate.refused);
            else counts[fate]++;
            if (fate === 'known' && event.idDerived) counts.knownByContent++;
          }
          progress.show(counts.appended);
        }
      });
    } finally {
      progress.end();
      input.close();
    }
    if (counts.knownByContent > 0) {
      await io.stderr.write(
        `inorder: ${input.name}: ${grouped(counts.knownByContent)} of the known lines have no id: they were taken for repetitions because entity, place, type and content are those of events in the log; if they are new events, give them ids\n`,
      );
    }
    await io.stdout.write(`${grouped(counts.appended)} appended, ${grouped(counts.known)} known, ${grouped(counts.refused)} refused\n`);
    return counts.refused > 0 || signal.aborted ? 1 : 0;
  },
});

/** Numbered here as well, so that two events with equal content and without ids differ by their places. */
function readingOf(request: ReadingRequest, { limits, processing: { entityType } }: Config) {
  const fields = { sequences: 'number', unsequenced: 'reject' } as const;
  return { ...textsOf(request), limits, defaultEntityType: entityType, entityType, ...fields };
}

function eventOf({ event: { id, type, timestamp, dataJson, metadata } }: LineEvent): IdentifiedEvent {
  return { id, type, timestamp: timestamp ?? undefined, dataJson, metadata };
}

async function* runsOf(lines: AsyncIterable<LineEvent>): AsyncGenerator<readonly LineEvent[]> {
  let run: LineEvent[] = [];
  for await (const line of lines) {
    const [first] = run;
    const goesOn = first !== undefined && first.event.entityId === line.event.entityId && first.event.entityType === line.event.entityType;
    if (first !== undefined && (!goesOn || run.length >= maxTogether)) {
      yield run;
      run = [];
    }
    run.push(line);
  }
  if (run.length > 0) yield run;
}

/** How long a stop waits for a broker that blocks publishes. */
const endTimeoutMs = 5_000;

export const relay = defineCommand({
  name: 'relay',
  summary: 'Publishes the events of the event store in order, and new ones as they are appended.',
  description: [
    'One relay of a stream is active; a second one is a standby and takes over where the first one ended. Events that were in',
    'flight then are published again, and are duplicates for the workers. Runs until SIGTERM or SIGINT.',
  ].join('\n'),
  positionals: [],
  options: {},
  variables: [...brokerVariables, ...eventStoreVariables, ...eventLimitVariables, 'SERVICE_NAME', 'LOG_LEVEL'],
  async run(_args, io) {
    const config = loadConfig(io.env);
    const { broker, limits } = config;
    const log = processLog(config, io);
    const signal = io.takeSignals();
    const opened = { role: 'relay', log, time: io.time };
    const store = openEventStore(config, opened);
    const leases = openRelayLeases(config, opened);
    const connection = createConnection({ ...broker, name: connectionName(opened.role, config), log, time: io.time });
    const publisher = createAmqpPublisher({ connection, exchange: broker.stream, log });
    // Unconfirmed events are abandoned, so that this ends: the next relay publishes them again.
    signal.addEventListener('abort', () => void publisher.close(endTimeoutMs), { once: true });
    const onProgress = ({ published, position }: { published: number; position: number }) =>
      log.debug({ published, position }, 'published');
    try {
      await runRelay({ store, leases, publisher, limits, log, signal, time: io.time, onProgress });
    } finally {
      await publisher.close(endTimeoutMs);
      await Promise.allSettled([connection.close(), store.close(), leases.close()]);
    }
    log.info({}, 'stopped');
    return 0;
  },
});
