/** The options that filter dead letters, shared by the commands that use them. */
import { type DeadLetterReason, deadLetterReasons, type LetterFilter } from '../dead-letters/dead-letter.ts';
import { ConfigError } from '../errors.ts';
import { readTime, timeForms } from '../events/timestamp.ts';
import type { Time } from '../time.ts';
import { type OptionValues, value } from './command.ts';

export const selectionOptions = {
  entity: value('ID', 'Only of this entity.'),
  'entity-type': value('T', 'Only of entities of this type.'),
  type: value('T', 'Only events of this type.'),
  reason: value('R', 'Only with this reason.'),
  shard: value('N', 'Only from this shard.'),
  since: value('TIME', `Only since this time (${timeForms}), or within the last 90s, 15m, 2h, 7d.`),
};

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
