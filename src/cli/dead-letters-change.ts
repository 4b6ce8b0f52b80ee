/**
 * The commands that take dead letters out of their queue. `replay` publishes them to their stream again, per entity in the order of
 * its sequences; `discard` removes them for good. Both show first what they would do, and leave entries in the audit trail.
 */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { isSelective } from '../dead-letters/dead-letter.ts';
import { countMatched, type Survey } from '../dead-letters/inspect.ts';
import { countLetters, sequencesText } from '../dead-letters/replay-plan.ts';
import { isDone } from '../dead-letters/replay.ts';
import { ConfigError } from '../errors.ts';
import { grouped, printable } from '../printable.ts';
import { ratePerSecond } from '../publishing/publish-request.ts';
import { openGapSource, type OpenGapSource } from '../worker/operator-modules.ts';
import { commandLog, withLetters } from './access.ts';
import { optionValue, type CommandIo, defineCommand, jsonOption, flag, value, letterVariables } from './command.ts';
import { confirm, operatorName, requiredWhy, whyOption, yesOption } from './change.ts';
import { filterOf, selectionOptions } from './dead-letters.ts';
import { ProgressDisplay } from './process-io.ts';
import { asPlanJson, asPlanText, outcomeJson, outcomeText } from './replay-text.ts';

export const replay = defineCommand({
  name: 'dead-letters replay',
  summary: 'Publishes dead letters to their stream again, in order.',
  description: [
    'First prints the plan: which letters are replayable, which are not, and why. Filters (ID, --reason, --type…) choose whole',
    'entities, and all their dead letters are replayed unless --only is given: in the order of their sequences, as far as they follow',
    'the version without a gap. Letters that the version has passed become duplicates. Letters that are not replayable stay, and the',
    'plan says what to do instead. Copies get the id of their entity as routing key, also if the letter had another one. Meanwhile the',
    'workers hold new events of the entity. Only letters that were there when the plan was made are replayed. A letter is removed',
    'from the queue when its copy is confirmed, so an interruption loses nothing.',
    'ID is the id of a message or its fingerprint, as `list` prints them.',
    'Exit code 1 when no chosen letter is replayable (except with --ready), a letter was dead-lettered again, or nothing more was',
    'processed for half a minute.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: {
    ...selectionOptions,
    only: flag('Only the matching letters, and not the others of their entities.'),
    ready: flag('Only entities whose missing event has arrived since.'),
    all: flag('All dead letters.'),
    repair: flag('Fetches missing events from the source that GAP_REPAIR names, so that more letters are replayable.'),
    rate: value('R', 'At most R letters per second. Default: no limit.'),
    yes: yesOption,
    json: jsonOption,
  },
  variables: [...letterVariables, 'GAP_REPAIR', 'EVENT_STORE'],
  async run({ positionals, options }, io) {
    const filter = filterOf(options, io.time, positionals);
    const { ready, all, only, json, yes } = options;
    if (!isSelective(filter) && !ready && !all) throw new ConfigError(['say which: an ID, --entity, --reason, --ready, or --all']);
    const rate = options.rate === null ? undefined : optionValue('--rate', options.rate, ratePerSecond);
    const config = loadConfig(io.env);
    const gaps = await openSource(options.repair, config, io);
    const signal = io.takeSignals();
    return withLetters(config, io, (all) =>
      all.exclusively(async (letters) => {
        const reading = new ProgressDisplay(io, 'read');
        const onRead = (read: number) => reading.show(read);
        const plan = await letters.plan({ filter, only, source: gaps?.source, readyOnly: ready, signal, onProgress: onRead });
        reading.end();
        if (signal.aborted) return 1;
        await io.stdout.write(json ? asPlanJson(plan) : asPlanText(plan));
        const { replayable, blocked } = countLetters(plan);
        const isAsked = isSelective(filter) || blocked + (plan.notReplayable?.length ?? 0) > 0;
        if (replayable === 0) return isAsked && !ready ? 1 : 0;
        if (!(await confirm(`Replay ${replayable} dead letters?`, yes, io, signal))) return 1;
        const progress = new ProgressDisplay(io, 'replayed');
        const onReplayed = (replayed: number, total: number) => progress.show(replayed, total);
        const report = await letters
          .replay(plan, { who: operatorName(), ratePerSecond: rate, signal, onProgress: onReplayed })
          .finally(() => progress.end());
        const outcome = await letters.outcome(plan, report, { signal });
        await io.stdout.write(json ? outcomeJson(report, outcome) : outcomeText(report, outcome));
        return isDone(plan, report, outcome) ? 0 : 1;
      }),
    ).finally(() => gaps?.close());
  },
});

/** The source of --repair; null without it. */
async function openSource(repair: boolean, config: Config, io: CommandIo): Promise<OpenGapSource | null> {
  if (!repair) return null;
  const open = await openGapSource(config, commandLog(config, io), io.time);
  if (open === null) throw new ConfigError(['--repair needs GAP_REPAIR, which names the source of missing events']);
  return open;
}

/** Entities that are listed. */
const maxShown = 50;

export const discard = defineCommand({
  name: 'dead-letters discard',
  summary: 'Removes dead letters for good, with a reason for the audit trail.',
  description: [
    'First lists the letters to discard. Discarded letters are lost: `export` them before if in doubt. A discarded event is still',
    'missing for its entity, which stays parked until a corrected event arrives; with --skip-sequence the entity passes it',
    'instead, and continues without its effect. `inorder audit` shows who discarded what, and why.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: {
    ...selectionOptions,
    all: flag('All dead letters.'),
    why: whyOption,
    'skip-sequence': flag('The entities pass the discarded sequences, which must be the next ones.'),
    yes: yesOption,
  },
  variables: letterVariables,
  async run({ positionals, options }, io) {
    const filter = filterOf(options, io.time, positionals);
    if (!isSelective(filter) && !options.all) throw new ConfigError(['say which: an ID, --entity, --reason, or --all']);
    const reason = requiredWhy(options.why);
    const config = loadConfig(io.env);
    const signal = io.takeSignals();
    const skipSequence = options['skip-sequence'];
    return withLetters(config, io, (all) =>
      all.exclusively(async (letters) => {
        const reading = new ProgressDisplay(io, 'read');
        const survey = await letters
          .planDiscard({ filter, skipSequence, signal, onProgress: (read) => reading.show(read) })
          .finally(() => reading.end());
        if (signal.aborted) return 1;
        const count = countMatched(survey);
        if (count === 0) {
          await io.stderr.write('inorder: no dead letter matches\n');
          return 1;
        }
        await io.stdout.write(asText(survey, count));
        if (!(await confirm(`Discard ${count} dead letters?`, options.yes, io, signal))) return 1;
        const discarded = await letters.discard(survey, { who: operatorName(), reason, skipSequence, signal });
        const gone = discarded < count ? `, ${grouped(count - discarded)} were no longer in the queue` : '';
        await io.stdout.write(`${grouped(discarded)} discarded${gone}\n`);
        return discarded === count ? 0 : 1;
      }),
    );
  },
});

function asText({ entities, unordered }: Survey, count: number): string {
  const lines = entities.slice(0, maxShown).map(({ entity, matched }) => {
    const ordered = [...matched].sort((a, b) => (a.sequence ?? 0) - (b.sequence ?? 0));
    return `  ${printable(`${entity.entityType} ${entity.entityId}`)}: ${sequencesText(ordered)}\n`;
  });
  if (entities.length > maxShown) lines.push(`  and ${grouped(entities.length - maxShown)} more entities\n`);
  if (unordered.length > 0) lines.push(`  ${grouped(unordered.length)} without an entity or a sequence that can be read\n`);
  return `${lines.join('')}${grouped(count)} would be lost\n`;
}
