/**
 * `inorder publish`: publishes events from a file or a pipe, and reports their outcomes. Guarantees that problems of the
 * arguments, the input or the topology are reported before anything is sent, and exit code 1 unless everything was
 * confirmed.
 */
import { type Config, connectionName } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { grouped, redactUrls } from '../printable.ts';
import { ConfigError, UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { type Input, openInput } from '../publishing/open-input.ts';
import { ProgressDisplay } from './process-io.ts';
import { isComplete, type PublishCounts, publishInput, type PublishReport } from '../publishing/publish-input.ts';
import { parseRequest, type PublishRequest } from '../publishing/publish-request.ts';
import { placeOf, readInput, textsOf } from '../publishing/read-input.ts';
import type { TextLine } from '../publishing/text-lines.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { createAmqpPublisher } from '../rabbitmq/publisher.ts';
import { brokerWords, replyCodeOf, replyCodes } from '../rabbitmq/refusal.ts';
import { ScratchChannel } from '../rabbitmq/channels.ts';
import { withBroker } from './access.ts';
import { brokerVariables, type CommandIo, defineCommand, flag, value, eventLimitVariables } from './command.ts';
import { timeForms } from '../events/timestamp.ts';

/** The options and help texts of every command that reads events from a file or a pipe. */
export const inputOptions = {
  format: value('F', 'ndjson, csv or cloudevents. Default: by the name of the file; ndjson for a pipe.'),
  map: value(
    'FIELD=Name,…',
    'Columns or members that are id, entity_type, entity_id, sequence, type, timestamp: \'entity_id="Case, ID",type=Step\'.',
  ),
  delimiter: value('C', 'CSV: the delimiter of fields, a character or the word tab. Default: detected.'),
};

export const inputFormatsText = [
  'ndjson       JSON envelopes, one per line, over several lines, or all in one array; members and numbers stay as written',
  'cloudevents  structured CloudEvents in the same way, or a batch (an array of them)',
  'csv          a table with a header; columns that are no field, by name or --map, go into `data` as text, and those',
  '             without a name are dropped; separated by , ; | or tabs, or as a first line `sep=;` says',
  '',
  `A timestamp is ${timeForms}.`,
  'The text is UTF-8, plain or packed with gzip. --map names columns, or members of JSON objects (`data.orderId` for a nested one); a',
  'name with a comma is written in double quotes: --map \'entity_id="Case, ID",type=Step\'. A number used as an id becomes text.',
].join('\n');

export const command = defineCommand({
  name: 'publish',
  summary: 'Publishes events from a file or standard input; can shuffle, repeat and drop some.',
  description: [
    'Publishes events and waits until the broker has confirmed all of them. Exit code 1 when one was not confirmed.',
    '',
    inputFormatsText,
    '',
    'Events without a sequence get 1, 2, 3… per entity, in the order of the file and before they are shuffled,',
    'repeated or dropped; of an entity either all events are numbered so, or none. Events that a worker would certainly dead-letter are',
    'refused here, line by line, and counted as failed: also one without an entity, unless UNSEQUENCED is process or --unsequenced is given.',
    'The others are published. If the first 20 lines are all refused for one cause, nothing is published. The same seed gives the same order.',
  ].join('\n'),
  positionals: ['[FILE|-]'],
  options: {
    ...inputOptions,
    shuffle: value('W', 'Moves each event by up to W places in either direction.'),
    duplicate: value('P', 'Sends each event again with probability P, 0 to 1.'),
    drop: value('P', 'Drops each event with probability P, 0 to 1.'),
    rate: value('R', 'Sends at most R messages per second, evenly.'),
    seed: value('S', 'Seed of the reordering, a whole number. Default: random; it is printed.'),
    'entity-type': value('T', 'Written into events without an entity type. Default: none, and ENTITY_TYPE of the workers applies.'),
    unsequenced: flag('Publishes events without a sequence or an entity unchanged, for workers with UNSEQUENCED=process.'),
    json: flag('Print the report as JSON.'),
  },
  variables: [...brokerVariables, 'STREAM', 'ENTITY_TYPE', 'UNSEQUENCED', 'FIRST_SEQUENCE', ...eventLimitVariables],
  async run({ positionals: [path = '-'], options }, io) {
    const request = parseRequest(path, options);
    const config = loadConfig(io.env);
    const stop = io.takeSignals();
    const input = await openInput(path, io.stdin, stop);
    try {
      const lines = await readInput(input, request);
      if (stop.aborted) {
        await io.stderr.write('inorder: interrupted before the first event\n');
        return 1;
      }
      await requireExchange(config, io);
      const seed = request.seed ?? Math.floor(io.time.random() * 2 ** 32);
      const isReordered = request.window > 0 || request.duplicate > 0 || request.drop > 0;
      if (isReordered && request.seed === null) await io.stderr.write(`seed ${seed}: --seed ${seed} repeats this\n`);
      const report = await publish(lines, input, { ...request, seed, unsequenced: options.unsequenced }, { config, stop, io });
      await io.stdout.write(options.json ? asJson(report, seed) : asText(report));
      return isComplete(report) ? 0 : 1;
    } finally {
      input.close();
    }
  },
});

/** Checked before more input is read: without the exchange the broker refuses every message. */
async function requireExchange(config: Config, io: CommandIo): Promise<void> {
  const { stream } = config.broker;
  await withBroker(config, io, async (connection) => {
    const source = { ready: async () => connection, time: io.time };
    const cause = await ScratchChannel.use(source, (scratch) => scratch.attempt((channel) => channel.checkExchange(stream)));
    if (replyCodeOf(cause) === replyCodes.notFound)
      throw new ConfigError([`there is no exchange ${stream} at the broker: run \`inorder topology apply\``], { cause });
    if (cause !== null) throw new UnavailableError(brokerWords(cause), { cause });
  });
}

interface Surroundings {
  readonly config: Config;
  readonly stop: AbortSignal;
  readonly io: CommandIo;
}

type SeededRequest = PublishRequest & { readonly seed: number; readonly unsequenced: boolean };

async function publish(lines: AsyncIterable<TextLine>, input: Input, request: SeededRequest, { config, stop, io }: Surroundings) {
  const { broker, limits, processing, ordering, shutdownTimeoutMs } = config;
  const connection = createConnection({ ...broker, name: connectionName('publisher', config), log: plainLog(io), time: io.time });
  const publisher = createAmqpPublisher({ connection, exchange: broker.stream, log: plainLog(io) });
  const progress = new ProgressDisplay(io);
  const startedMs = io.time.nowMs();
  // Without the broker the outstanding events would wait for ever.
  stop.addEventListener('abort', () => io.time.after(shutdownTimeoutMs, () => void publisher.close(0), { unref: true }));
  try {
    return await publishInput(lines, {
      reading: {
        ...textsOf(request),
        limits,
        defaultEntityType: processing.entityType,
        entityType: request.entityType,
        sequences: request.unsequenced ? 'as-given' : 'number',
        unsequenced: request.unsequenced ? 'process' : ordering.unsequenced,
        ofNoEntity: 'events of no entity need --unsequenced',
        onProblem: (line, problem) => progress.say(`${placeOf(input, line)}: ${problem}`),
      },
      reordering: request,
      ratePerSecond: request.ratePerSecond,
      stop,
      publisher,
      time: io.time,
      onOutcome: (counts, outcome) => {
        progress.draw(() => progressLine({ ...counts, share: shareRead(input), elapsedMs: io.time.nowMs() - startedMs }));
        if (outcome.status === 'failed') progress.say(outcome.error.message);
      },
    });
  } finally {
    progress.end();
    await publisher.close();
    await connection.close();
  }
}

/** Prints the connection's warnings as lines. */
function plainLog(io: CommandIo): Log {
  const say = (fields: object, message: string) => {
    const cause = 'cause' in fields ? ` (${String(fields.cause)})` : '';
    void io.stderr.write(`inorder: ${redactUrls(message + cause)}\n`);
  };
  return { debug: () => undefined, info: () => undefined, warn: say, error: say };
}

/** Null if the length of the input is unknown. */
function shareRead({ sizeBytes, bytesRead }: Input): number | null {
  return sizeBytes === null ? null : bytesRead() / Math.max(sizeBytes, 1);
}

function asText({ events, published, confirmed, returned, failed, interruptedAtLine }: PublishReport): string {
  const outcomes = `${grouped(confirmed)} confirmed, ${grouped(returned)} returned, ${grouped(failed)} failed`;
  const end = interruptedAtLine === null ? '' : `; interrupted after line ${grouped(interruptedAtLine)}`;
  return `${grouped(events)} ${events === 1 ? 'event' : 'events'}: ${grouped(published)} published, ${outcomes}${end}\n`;
}

function asJson({ events, published, confirmed, returned, failed, badLines, interruptedAtLine }: PublishReport, seed: number): string {
  const report = {
    events,
    published,
    confirmed,
    returned,
    failed,
    bad_lines: badLines,
    interrupted_at_line: interruptedAtLine,
    seed,
  };
  return `${JSON.stringify(report)}\n`;
}

export interface Progress extends PublishCounts {
  /** The share of the input that has been read, 0 to 1; null if its length is unknown. */
  readonly share: number | null;
  readonly elapsedMs: number;
}

const barWidth = 24;

/** `[######··················]  25 %  3,400 published, 3,380 confirmed, 12,100/s` */
export function progressLine({ share, published, confirmed, returned, failed, elapsedMs }: Progress): string {
  const rate = Math.round((confirmed * 1_000) / Math.max(elapsedMs, 1));
  const parts = [`${grouped(published)} published`, `${grouped(confirmed)} confirmed`];
  if (returned > 0) parts.push(`${grouped(returned)} returned`);
  if (failed > 0) parts.push(`${grouped(failed)} failed`);
  return `${share === null ? '' : `${bar(Math.min(share, 1))}  `}${parts.join(', ')}, ${grouped(rate)}/s`;
}

function bar(share: number): string {
  const filled = Math.floor(share * barWidth);
  return `[${'#'.repeat(filled)}${'·'.repeat(barWidth - filled)}] ${String(Math.floor(share * 100)).padStart(3)} %`;
}
