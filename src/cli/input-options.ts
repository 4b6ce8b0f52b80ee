/** The options and the words of every command that reads events from a file or a pipe. */
import { timeForms } from '../events/timestamp.ts';
import type { ValueOption } from './command.ts';

export const inputOptions = {
  format: {
    kind: 'value',
    placeholder: 'F',
    meaning: 'ndjson, csv or cloudevents. Default: by the name of the file; ndjson for a pipe.',
  },
  map: {
    kind: 'value',
    placeholder: 'FIELD=Name,…',
    meaning: 'Columns or members that are id, entity_type, entity_id, sequence, type, timestamp: \'entity_id="Case, ID",type=Step\'.',
  },
  delimiter: {
    kind: 'value',
    placeholder: 'C',
    meaning: 'CSV: what separates fields, a character or the word tab. Default: found by looking.',
  },
} as const satisfies Readonly<Record<string, ValueOption>>;

export const inputFormatsText = [
  'ndjson       JSON envelopes, one per line, each over several lines, or all in one array; members and numbers stay as they are written',
  'cloudevents  structured CloudEvents in the same way, or a batch (an array of them)',
  'csv          a table with a header; columns that --map and their names assign to no field go into `data`, as text, and those',
  '             without a name nowhere; separated by , ; | or tabs, or as a first line `sep=;` says',
  '',
  `A timestamp is ${timeForms}.`,
  'The text is UTF-8, packed with gzip or not. --map names columns, or members of JSON objects (`data.orderId` for one within); a',
  'name with a comma is written in double quotes: --map \'entity_id="Case, ID",type=Step\'. A number that it makes an id becomes text.',
].join('\n');
