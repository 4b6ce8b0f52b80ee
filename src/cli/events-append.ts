/**
 * `inorder events append`: appends events from a file or standard input to the event store, in order. Each line is
 * appended, known, or refused.
 */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { grouped } from '../printable.ts';
import { ConfigError } from '../errors.ts';
import { appendEach, type IdentifiedEvent } from '../event-sourcing/append-each.ts';
import { lineEvents, type LineEvent } from '../publishing/line-events.ts';
import { openInput } from '../publishing/open-input.ts';
import { ProgressDisplay } from './progress.ts';
import { placeOf, readInput, type ReadingRequest, textsOf } from '../publishing/read-input.ts';
import { readingRequest } from '../publishing/publish-request.ts';
import { defineCommand, eventStoreVariables, eventLimitVariables } from './command.ts';
import { withEventStore } from './access.ts';
import { inputFormatsText, inputOptions } from './publish.ts';

/** The most consecutive lines of one entity that are appended together. */
const maxTogether = 100;

export const command = defineCommand({
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
