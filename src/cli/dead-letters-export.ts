/** `inorder dead-letters export`: dead letters as NDJSON, whole, or as events that can be corrected and published again. */
import { loadConfig } from '../config/load.ts';
import { defineCommand } from './command.ts';
import { letterVariables, withLetters } from './store-access.ts';
import { filterOf, selectionOptions } from './letter-selection.ts';

export const command = defineCommand({
  name: 'dead-letters export',
  summary: 'Prints dead letters as NDJSON; nothing is taken out.',
  description: [
    'One line for each: message, reason, detail, headers and body. With --events the event alone, in the JSON envelope: what',
    '`inorder publish` takes after it was corrected. What is no JSON object cannot be an event, and is left out with a line',
    'on standard error. Discard the letter once its corrected event is published.',
  ].join('\n'),
  positionals: ['[ID]'],
  options: { ...selectionOptions, events: { kind: 'flag', meaning: 'Only the events, as `inorder publish` reads them.' } },
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
