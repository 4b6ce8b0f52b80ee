/** `inorder events append`: events from a file or standard input into the event store, in order. */
import { loadConfig } from '../config/load.ts';
import { EventError } from '../errors.ts';
import { timeForms } from '../events/timestamp.ts';
import { lineEvents, type LineEvent } from '../publishing/line-events.ts';
import { openInput } from '../publishing/open-input.ts';
import { grouped } from '../publishing/progress-line.ts';
import { jsonTexts } from '../publishing/json-texts.ts';
import { readLines } from '../publishing/text-lines.ts';
import type { AppendResult, EventStore } from '../stores/event-store.ts';
import { defineCommand } from './command.ts';
import { CountDisplay } from './count-display.ts';
import { eventStoreVariables, withEventStore } from './event-store-access.ts';

/** Lines of one entity that follow each other are appended together. */
const maxTogether = 100;

export const command = defineCommand({
  name: 'events append',
  summary: 'Appends events from a file or standard input to the event store.',
  description: [
    'FILE has an event per line, as `publish` takes it; a sequence is not looked at: the log gives it. Appending a file again changes',
    'nothing. Exit code 1 when a line was refused; what comes behind it of its entity is appended all the same.',
    `A timestamp is ${timeForms}.`,
  ].join('\n'),
  positionals: ['[FILE|-]'],
  options: {},
  variables: [...eventStoreVariables, 'ENTITY_TYPE'],
  async run({ positionals: [path = '-'] }, io) {
    const config = loadConfig(io.env);
    const signal = io.takeSignals();
    const input = await openInput(path, io.stdin, signal);
    const progress = new CountDisplay(io, 'appended');
    const counts = { appended: 0, repeated: 0, refused: 0 };
    const refuse = (line: number, problem: string) => {
      counts.refused++;
      void io.stderr.write(`inorder: line ${line}: ${problem}\n`);
    };
    const { entityType } = config.processing;
    const lines = lineEvents(jsonTexts(readLines(input.bytes)), { format: 'envelope', limits: config.limits, defaultEntityType: entityType, entityType, onProblem: refuse });
    try {
      await withEventStore(config, io, async (events) => {
        for await (const together of runsOf(lines)) {
          if (signal.aborted) break;
          try {
            counts[(await append(events, together)).status] += together.length;
          } catch (error) {
            if (!(error instanceof EventError)) throw error;
            for (const { line } of together) refuse(line, error.message);
          }
          progress.show(counts.appended);
        }
      });
    } finally {
      progress.end();
      input.close();
    }
    await io.stdout.write(`${grouped(counts.appended)} appended, ${grouped(counts.repeated)} were there, ${grouped(counts.refused)} refused\n`);
    return counts.refused > 0 || signal.aborted ? 1 : 0;
  },
});

function append(events: EventStore, together: readonly LineEvent[]): Promise<AppendResult> {
  const { entityType, entityId } = together[0]!.event;
  const given = together.map(({ event: { id, type, timestamp, dataJson, metadata } }) => ({ id, type, timestamp: timestamp ?? undefined, dataJson, metadata }));
  return events.append({ entityType, entityId }, given, { expectedVersion: 'any' });
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
