/**
 * Dead letters as text: a line of a table, a page about one, and JSON. Control characters are never printed.
 *
 * Why no library for tables: each line is printed when its letter is read, and such a library needs all of them first. Why not
 * string-width: four packages only to align lines with wide characters.
 */
import { type DeadLetter, letterFields, type LetterGroup, messageFields, textOf } from '../dead-letters/dead-letter.ts';
import type { FoundLetter } from '../dead-letters/inspect.ts';
import { layOutJson, printable, printableJsonLine, printableLines, utf8, valueText } from '../printable.ts';

interface Column {
  readonly title: string;
  readonly width: number;
  /** Whether a longer text is cut; not if users need all of it. */
  readonly cut: boolean;
  readonly text: (letter: DeadLetter) => string;
}

const columns: readonly Column[] = [
  { title: 'MESSAGE', width: 32, cut: false, text: ({ messageId }) => messageId },
  { title: 'ENTITY', width: 24, cut: true, text: entityOf },
  { title: 'SEQ', width: 5, cut: false, text: ({ sequence }) => String(sequence ?? '-') },
  { title: 'TYPE', width: 16, cut: true, text: ({ type }) => type ?? '-' },
  { title: 'REASON', width: 19, cut: false, text: ({ reason }) => reason },
  { title: 'SHARD', width: 5, cut: false, text: ({ shard }) => String(shard ?? '-') },
  { title: 'SINCE', width: 20, cut: false, text: ({ deadLetteredAt }) => toSeconds(deadLetteredAt) },
];

/** The most bytes of a body to print; `--json` prints all of them. */
const shownBytes = 65_536;

export const tableHeader = tableLine(columns.map(({ title }) => title));

export function asTableLine(letter: DeadLetter): string {
  return tableLine(columns.map(({ width, cut, text }) => (cut ? cutTo(width, printable(text(letter))) : printable(text(letter)))));
}

function tableLine(cells: readonly string[]): string {
  return `${cells
    .map((cell, at) => cell.padEnd(columns[at]?.width ?? 0))
    .join('  ')
    .trimEnd()}\n`;
}

function cutTo(width: number, text: string): string {
  // Half of a surrogate pair is no character.
  return text.length <= width ? text : `${text.slice(0, width - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}

export function groupHeader(title: string): string {
  return groupLine(title.toUpperCase(), 'COUNT', 'FIRST', 'LAST');
}

export function asGroupLine({ name, count, first, last }: LetterGroup): string {
  return groupLine(name === null ? '-' : printable(name), String(count), toSeconds(first), toSeconds(last));
}

export function asGroupJson({ name, count, first, last }: LetterGroup): string {
  return printableJsonLine({ group: name, count, first, last });
}

function groupLine(name: string, count: string, first: string, last: string): string {
  return `${name.padEnd(32)}  ${count.padStart(7)}  ${first.padEnd(20)}  ${last}\n`;
}

export function asListJson(letter: DeadLetter): string {
  return printableJsonLine(letterFields(letter));
}

export function asJson({ letter, status }: FoundLetter): string {
  const entity = { entity_version: status?.version ?? null, entity_parked: status?.parked ?? null, missing: status?.missing ?? null };
  return printableJsonLine({ ...letterFields(letter), ...entity, ...messageFields(letter) });
}

function toSeconds(time: string | null): string {
  return time?.replace(/\.\d+Z$/, 'Z') ?? '-';
}

export function asPage({ letter, status }: FoundLetter): string {
  const { message } = letter;
  const { meaning, cause, remedy } = textOf(letter.reason);
  const rows: (readonly [string, string])[] = [
    ['message', letter.messageId],
    ['entity', entityOf(letter)],
    ['sequence', String(letter.sequence ?? 'not known')],
    ...(status === null
      ? []
      : [['version', `${status.version}${status.parked ? ', parked' : ''}`] as const, ['status', status.text] as const]),
    ['type', letter.type ?? 'not known'],
    ['reason', letter.reason],
    ['meaning', meaning],
    ['usual cause', cause],
    ['detail', letter.detail],
    ...(letter.stack ?? '')
      .split('\n')
      .filter(Boolean)
      .map((line, index) => [index === 0 ? 'stack' : '', line] as const),
    ['remedy', remedy],
    ['shard', String(letter.shard ?? 'not known')],
    ['since', letter.deadLetteredAt ?? 'not known'],
    ['replays', letter.replayedAt.length === 0 ? '0' : `${letter.replayedAt.length}: ${letter.replayedAt.join(', ')}`],
    ['routing key', message.routingKey],
    ['content', message.contentType ?? 'type not given'],
    ['fingerprint', letter.fingerprint],
    ...Object.entries(message.headers).map(([name, value]) => ['header', `${name}: ${valueText(value)}`] as const),
  ];
  const facts = rows.map(([name, text]) => `${name.padEnd(13)}${printable(text)}\n`).join('');
  return `${facts}body         ${message.body.byteLength} bytes\n${bodyText(message.body)}\n`;
}

function entityOf({ entityType, entityId }: DeadLetter): string {
  if (entityId === null) return '-';
  return entityType === null ? entityId : `${entityType} ${entityId}`;
}

function bodyText(body: Uint8Array): string {
  const shown = body.subarray(0, shownBytes);
  const rest = body.byteLength > shown.byteLength ? `\n… ${body.byteLength - shown.byteLength} more bytes; --json prints all of them` : '';
  const whole = rest === '' ? utf8(body) : null;
  const layout = whole === null ? null : layOutJson(whole);
  const text = layout ?? whole ?? (utf8(body) === null ? hexDump(shown) : new TextDecoder().decode(shown));
  return `${printableLines(text)}${rest}`;
}

function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.byteLength; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = Array.from(row, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const ascii = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex.padEnd(47)}  ${ascii}`);
  }
  return lines.join('\n');
}
