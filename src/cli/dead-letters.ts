/**
 * `inorder dead-letters list`, `show` and `export`: what was dead-lettered, and why; nothing is removed. Their filters serve
 * the commands that change something as well (dead-letters-change.ts).
 */
import { loadConfig } from '../config/load.ts';
import { oneOf, wholeNumber } from '../config/parsers.ts';
import {
  type Grouping,
  groupings,
  isSelective,
  type LetterFilter,
  type DeadLetterReason,
  deadLetterReasons,
} from '../dead-letters/dead-letter.ts';
import type { DeadLetters } from '../dead-letters/dead-letters.ts';
import { ConfigError } from '../errors.ts';
import { readTime, timeForms } from '../events/timestamp.ts';
import { deadLetterQueueName } from '../rabbitmq/topology-plan.ts';
import type { Time } from '../time.ts';
import { withLetters } from './access.ts';
import { optionValue, type CommandIo, defineCommand, jsonOption, value, letterVariables, flag, type OptionValues } from './command.ts';
import { asGroupJson, asGroupLine, asJson, asListJson, asPage, asTableLine, groupHeader, tableHeader } from './letter-text.ts';
import { ProgressDisplay } from './process-io.ts';

/** The options that filter dead letters. */
export const selectionOptions = {
  entity: value('ID', 'Only of this entity.'),
  'entity-type': value('T', 'Only of entities of this type.'),
  type: value('T', 'Only events of this type.'),
  reason: value('R', 'Only with this reason.'),
  shard: value('N', 'Only from this shard.'),
  since: value('TIME', `Only since this time (${timeForms}), or within the last 90s, 15m, 2h, 7d.`),
};

const howItReads = [
  'Reading holds the messages unacknowledged and then gives them back, in their order. It has two side effects: the',
  'broker marks the messages as redelivered, and counts one more delivery. During the reading other readers do not',
  'see the messages that it holds.',
].join('\n');

export const list = defineCommand({
  name: 'dead-letters list',
  summary: 'Lists what was dead-lettered and why, oldest first; nothing is removed.',
  description: `Prints a line for each message of the dead-letter queue, or for each group.\n${howItReads}`,
  positionals: [],
  options: {
    ...selectionOptions,
    limit: value('N', 'Most letters to print, the oldest first. Default: all.'),
    'group-by': value('G', `Count them by ${groupings.join(', ')}, with the first and the last time.`),
    json: jsonOption,
  },
  variables: letterVariables,
  async run({ options }, io) {
    const filter = filterOf(options, io.time);
    const limit = options.limit === null ? Number.POSITIVE_INFINITY : optionValue('--limit', options.limit, wholeNumber(1));
    const groupBy = options['group-by'] === null ? null : optionValue('--group-by', options['group-by'], oneOf(...groupings));
    const config = loadConfig(io.env);
    const signal = io.takeSignals();
    const selection = { filter, limit, signal, json: options.json };
    const printed = await withLetters(config, io, (letters) => {
      return groupBy === null ? printLetters(letters, selection, io) : printGroups(letters, groupBy, selection, io);
    });
    if (printed === 0 && !signal.aborted) await io.stderr.write(`${nothingIn(deadLetterQueueName(config.broker.stream), filter)}\n`);
    return signal.aborted ? 1 : 0;
  },
});

export const show = defineCommand({
  name: 'dead-letters show',
  summary: 'Everything about one dead letter: reason, detail, remedy, what it waits for, replays, headers, body.',
  description: [
    'ID is the id of the message, or the fingerprint of its body if it has none, as `list` prints it. All copies',
    'of a message are shown; exit code 1 when there is none.',
    howItReads,
  ].join('\n'),
  positionals: ['ID'],
  options: { json: jsonOption },
  variables: letterVariables,
  async run({ positionals, options }, io) {
    const id = positionals[0]!;
    const config = loadConfig(io.env);
    const queue = deadLetterQueueName(config.broker.stream);
    const signal = io.takeSignals();
    const letters = await withLetters(config, io, (all) => all.find(id, { signal }));
    if (signal.aborted) return 1;
    if (letters.length === 0) {
      await io.stderr.write(`inorder: there is no dead letter ${JSON.stringify(id)} in ${queue}\n`);
      return 1;
    }
    await io.stdout.write(options.json ? letters.map(asJson).join('') : letters.map(asPage).join('\n'));
    return 0;
  },
});

interface Selection {
  readonly filter: LetterFilter;
  readonly limit: number;
  readonly signal: AbortSignal;
  readonly json: boolean;
}

/** Returns the number of printed letters. */
async function printLetters(letters: DeadLetters, { json, ...selection }: Selection, io: CommandIo): Promise<number> {
  const render = json ? asListJson : asTableLine;
  let printed = 0;
  for await (const page of letters.list(selection)) {
    if (printed === 0 && !json) await io.stdout.write(tableHeader);
    if (!(await io.stdout.write(page.map(render).join('')))) break;
    printed += page.length;
  }
  return printed;
}

async function printGroups(letters: DeadLetters, by: Grouping, { limit, json, ...selection }: Selection, io: CommandIo): Promise<number> {
  const progress = new ProgressDisplay(io, 'read');
  const groups = await letters.group(by, { ...selection, onProgress: (read) => progress.show(read) });
  progress.end();
  const found = groups.slice(0, limit);
  if (found.length > 0 && !json) await io.stdout.write(groupHeader(by));
  await io.stdout.write(found.map(json ? asGroupJson : asGroupLine).join(''));
  return found.length;
}

function nothingIn(queue: string, filter: LetterFilter): string {
  return isSelective(filter) ? `nothing in ${queue} matches` : `${queue} is empty`;
}

export const exportLetters = defineCommand({
  name: 'dead-letters export',
  summary: 'Prints dead letters as NDJSON; nothing is removed.',
  description: [
    'One line per letter: message, reason, detail, headers and body. With --events only the event, in the JSON envelope, which',
    'can be corrected and given to `inorder publish`. A body that is not a JSON object is no event, and is left out with a line',
    'on standard error. Discard the letter once its corrected event is published.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: { ...selectionOptions, events: flag('Only the events, as `inorder publish` reads them.') },
  variables: letterVariables,
  async run({ positionals, options }, io) {
    const filter = filterOf(options, io.time, positionals);
    const config = loadConfig(io.env);
    const signal = io.takeSignals();
    let matched = 0;
    let leftOut = 0;
    await withLetters(config, io, async (letters) => {
      for await (const { letter, line } of letters.export({ filter, events: options.events, signal })) {
        matched++;
        if (line === null) {
          leftOut++;
          await io.stderr.write(`inorder: ${letter.messageId} is no JSON object and was left out\n`);
        } else if (!(await io.stdout.write(line))) return;
      }
    });
    if (matched === 0 && !signal.aborted) await io.stderr.write('inorder: no dead letter matches\n');
    return signal.aborted || leftOut > 0 ? 1 : 0;
  },
});

export type SelectionOptions = OptionValues<typeof selectionOptions>;

const units: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @throws ConfigError with everything that is wrong with them. */
export function filterOf(options: SelectionOptions, time: Time, ids: readonly string[] = []): LetterFilter {
  const problems: string[] = [];
  const filter = {
    ids: ids.length === 0 ? undefined : ids,
    entityId: options.entity ?? undefined,
    entityType: options['entity-type'] ?? undefined,
    type: options.type ?? undefined,
    reason: options.reason === null ? undefined : reasonOf(options.reason, problems),
    shard: options.shard === null ? undefined : shardOf(options.shard, problems),
    sinceMs: options.since === null ? undefined : timeOf(options.since, time, problems),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return filter;
}

function reasonOf(text: string, problems: string[]): DeadLetterReason | undefined {
  const reason = deadLetterReasons.find((candidate) => candidate === text);
  if (reason === undefined) problems.push(`--reason is ${JSON.stringify(text)}: it must be one of ${deadLetterReasons.join(', ')}`);
  return reason;
}

function shardOf(text: string, problems: string[]): number | undefined {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  problems.push(`--shard is ${JSON.stringify(text)}: it must be a whole number from 0 up`);
  return undefined;
}

function timeOf(text: string, time: Time, problems: string[]): number | undefined {
  const [, count, unit = ''] = /^(\d+)([smhd])$/.exec(text) ?? [];
  const since = count === undefined ? readTime(text) : time.wallMs() - Number(count) * units[unit]!;
  if (typeof since === 'number') return since;
  problems.push(`--since is ${JSON.stringify(text)}: it ${since}; or say how long ago: 90s, 15m, 2h, 7d`);
  return undefined;
}
