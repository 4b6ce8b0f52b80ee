/**
 * The map from the columns of a table, or the members of a JSON object, to the fields of an event: given with `--map`, or
 * proposed when an input uses other common names. A proposal is only printed; nothing is mapped because of its
 * name alone.
 */
import { editDistance } from '../config/given-text.ts';
import { ConfigError } from '../errors.ts';
import { quoted } from '../events/json-body.ts';

/** Fields of an event that can be mapped. */
export const mappableFields = ['id', 'entity_type', 'entity_id', 'sequence', 'type', 'timestamp'] as const;
export type MappableField = (typeof mappableFields)[number];

/** A field that is not in the map is the column of its own name, if there is one. */
export type FieldMap = ReadonlyMap<MappableField, string>;

/** `FIELD=Name`, or `FIELD="Name"` for a name with a comma, an equals sign or a quote (which is doubled). */
const pair = /\s*([^=,"]*?)\s*=\s*(?:"((?:[^"]|"")*)"\s*|([^,]*))(?:,|$)|([^,]*)(?:,|$)/y;

/** `entity_id=Case,type="Type, of it"`. @throws ConfigError with everything that is wrong with it. */
export function parseFieldMap(text: string): FieldMap {
  const map = new Map<MappableField, string>();
  const problems: string[] = [];
  for (pair.lastIndex = 0; pair.lastIndex < text.length; ) {
    const [found = '', name = '', quoted, plain = ''] = pair.exec(text) ?? [];
    const field = mappableFields.find((candidate) => candidate === name);
    const named = quoted?.replaceAll('""', '"') ?? plain.trim();
    if (field === undefined || named === '') {
      problems.push(
        `--map ${JSON.stringify(found.replace(/,$/, ''))}: it must be FIELD=Name, with a field of ${mappableFields.join(', ')}; a name with a comma is written in quotes: --map 'entity_id="Case, ID"'`,
      );
    } else if (map.has(field)) problems.push(`--map names ${field} twice`);
    else map.set(field, named);
    if (found === '') break;
  }
  if (text.trim() === '') problems.push('--map is empty');
  if (problems.length > 0) throw new ConfigError(problems);
  return map;
}

/** The option as it is typed in a shell. */
export function mapOption(pairs: readonly (readonly [field: string, name: string])[]): string {
  const text = pairs.map(([field, name]) => `${field}=${/[,"]|^\s|\s$/.test(name) ? `"${name.replaceAll('"', '""')}"` : name}`).join(',');
  return `--map ${shellWord(text)}`;
}

/** Quoted as one literal word of a shell. */
export function shellWord(text: string): string {
  return /^[\w.,=:@/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Names in lower case letters and digits only, the likeliest first. */
const usualNames: Readonly<Record<MappableField, readonly string[]>> = {
  id: ['eventid', 'messageid', 'eventuuid', 'uuid', 'guid'],
  entity_type: ['aggregatetype', 'entitytype', 'streamtype', 'objecttype', 'aggregatename'],
  entity_id: [
    'aggregateid',
    'entityid',
    'streamid',
    'subject',
    'partitionkey',
    'routingkey',
    'caseid',
    'caseconceptname',
    'key',
    'case',
    'aggregate',
    'entity',
    'stream',
  ],
  sequence: ['sequencenumber', 'sequenceid', 'sequenceno', 'seq', 'seqno', 'aggregateversion', 'eventnumber', 'version', 'revision'],
  type: [
    'eventtype',
    'eventname',
    'messagetype',
    'activity',
    'activityid',
    'activityname',
    'conceptname',
    'event',
    'action',
    'kind',
    'name',
  ],
  timestamp: [
    'time',
    'datetime',
    'occurredat',
    'occurredon',
    'eventtime',
    'createdat',
    'completetimestamp',
    'timetimestamp',
    'date',
    'ts',
    'at',
  ],
};

/** The names that probably stand for the field, the likeliest first. */
export function likelyNames(field: MappableField, names: readonly string[]): readonly string[] {
  const free = names.filter((name) => !(mappableFields as readonly string[]).includes(name));
  const usual = usualNames[field];
  const ranked = free.flatMap((name) => {
    const plain = plainName(name);
    const rank = usual.indexOf(plain);
    // Names that differ only in case: `Entity_ID`, `Type`.
    if (name.toLowerCase() === field) return [{ name, rank: -1 }];
    if (rank !== -1) return [{ name, rank }];
    if (plain.length > 4 && [field.replace('_', ''), ...usual].some((one) => one.length > 4 && editDistance(one, plain) <= 2))
      return [{ name, rank: 100 }];
    // `orderId`, `customer_id`: any name that ends in id.
    return field === 'entity_id' && /^(?!.*(event|message|trace|span|request|correlation|causation)id$).+id$/.test(plain)
      ? [{ name, rank: 200 }]
      : [];
  });
  const found = ranked.toSorted((a, b) => a.rank - b.rank).map(({ name }) => name);
  // The last resort: `id`.
  return found.length === 0 && field === 'entity_id' && names.includes('id') ? ['id'] : found;
}

/**
 * What to do about missing fields: the `--map` with their probable names, and with other fields that have another name;
 * otherwise the names that there are.
 */
export function mapHint(missing: readonly MappableField[], names: readonly string[]): string {
  const likely = missing.map((field) => [field, likelyNames(field, names)] as const);
  const there = `there ${names.length === 1 ? 'is' : 'are'} ${names
    .slice(0, 20)
    .map((name) => quoted(name))
    .join(', ')}${names.length > 20 ? ' and more' : ''}`;
  if (names.length === 0) return 'nothing in it has a name';
  const unknown = likely.filter(([, found]) => found.length === 0).map(([field]) => field);
  if (unknown.length > 0)
    return `${mapOption([...likely.map(([field, found]) => [field, found[0] ?? '…'] as const)])} says what is ${unknown.join(' and ')}; ${there}`;
  const others = mappableFields
    .filter((field) => !missing.includes(field) && !names.includes(field))
    .flatMap((field) => {
      const [name] = likelyNames(field, names);
      return name !== undefined && (name.toLowerCase() === field || usualNames[field].includes(plainName(name)))
        ? [[field, name] as const]
        : [];
    });
  const asked = likely
    .map(
      ([field, found]) =>
        `is ${field} ${found
          .slice(0, 3)
          .map((name) => quoted(name))
          .join(' or ')}?`,
    )
    .join(' ');
  return `${asked} Then ${mapOption([...likely.map(([field, found]) => [field, found[0]!] as const), ...others])}`;
}

function plainName(name: string): string {
  return name
    .slice(name.lastIndexOf('.') + 1)
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '');
}
