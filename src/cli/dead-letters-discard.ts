/** `inorder dead-letters discard`: removes dead letters for good, with an entry in the audit trail. */
import { loadConfig } from '../config/load.ts';
import { isSelective } from '../dead-letters/dead-letter.ts';
import { sequencesText } from '../dead-letters/replay-plan.ts';
import { countMatched, type Survey } from '../dead-letters/inspect.ts';
import { ConfigError } from '../errors.ts';
import { grouped, printable } from '../printable.ts';
import { ProgressDisplay } from './progress.ts';
import { defineCommand, flag, value, letterVariables } from './command.ts';
import { confirm, operatorName, yesOption } from './confirm.ts';
import { withLetters } from './access.ts';
import { filterOf, selectionOptions } from './letter-selection.ts';

/** Entities that are listed. */
const maxShown = 50;

export const command = defineCommand({
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
    why: value('TEXT', 'Why, for the audit trail. Required.'),
    'skip-sequence': flag('The entities pass the discarded sequences, which must be the next ones.'),
    yes: yesOption,
  },
  variables: letterVariables,
  async run({ positionals, options }, io) {
    const filter = filterOf(options, io.time, positionals);
    if (!isSelective(filter) && !options.all) throw new ConfigError(['say which: an ID, --entity, --reason, or --all']);
    if (options.why === null || options.why.trim() === '') throw new ConfigError(['--why is missing: say why, for the audit trail']);
    const reason = options.why;
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
