/**
 * Parses the time of an event: ISO 8601 (RFC 3339, also with a blank instead of the `T`, or without seconds or
 * offset). A time without an offset is UTC, independent of the worker's time zone. Guarantees that the
 * time exists in the calendar and lies in the years 1 to 9999, also in UTC, so that it can be written and read again.
 *
 * A leap second (23:59:60) is refused: neither JavaScript nor most stores can hold one.
 */

/** For help texts. */
export const timeForms = 'ISO 8601: 2026-01-31, 2026-01-31T08:00, 2026-01-31 08:00:00.25+02:00; UTC where no offset is given';

const firstMs = -62_135_596_800_000;
const lastMs = 253_402_300_799_999;

/** Milliseconds since 1970; or why `value` is no time and what to write instead, as words that follow a field's name. */
export function readTime(value: unknown): number | string {
  if (typeof value !== 'string') return typeof value === 'number' ? formFault(String(value)) : noTime;
  const year = pair(value, 0) * 100 + pair(value, 2);
  const month = pair(value, 5);
  const day = pair(value, 8);
  if (Number.isNaN(year + month + day) || value[4] !== '-' || value[7] !== '-') return formFault(value);
  const clock = value.length === 10 ? midnight : readClock(value);
  if (clock === null) return formFault(value);
  const { hour, minute, second, ms, offsetMinutes } = clock;
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return 'names a day that is not in the calendar';
  if (second === 60) return 'has a second 60: leap seconds are not read, write the second before or after it';
  if (hour > 23 || minute > 59 || second > 60) return 'names a time that no day has: hours end at 23, minutes and seconds at 59';
  if (Number.isNaN(offsetMinutes)) return 'has an offset that no zone has: at most 23:59';
  const atMs = daysSince1970(year, month, day) * 86_400_000 + (hour * 60 + minute - offsetMinutes) * 60_000 + second * 1_000 + ms;
  return isWritable(atMs) ? atMs : outOfRange;
}

/** As ISO 8601; null outside the years 1 to 9999, which have no such text. */
export function timeText(ms: number): string | null {
  return isWritable(ms) ? new Date(ms).toISOString() : null;
}

/**
 * Reads the AMQP property, and timestamps in headers: seconds since 1970. A value beyond the year 9999 is taken as milliseconds,
 * which many producers write by mistake. Null if it is no time either way, and for 0 and below, which mean unset.
 */
export function fromAmqpTimestamp(value: unknown): number | null {
  if (typeof value !== 'number' || !(value > 0)) return null;
  const ms = value * 1_000 <= lastMs ? value * 1_000 : value;
  return Number.isSafeInteger(ms) && isWritable(ms) ? ms : null;
}

const noTime = 'is not a date and time in ISO 8601, such as 2026-01-31T08:00:00Z';
const insteadOfNumber = ': seconds or milliseconds since 1970 have to be written in ISO 8601, such as 2026-01-31T08:00:00Z';
const outOfRange = 'lies outside the years 1 to 9999 (in UTC)';

interface Clock {
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly ms: number;
  /** Minutes east of UTC; NaN if the offset is too large. */
  readonly offsetMinutes: number;
}

const midnight: Clock = { hour: 0, minute: 0, second: 0, ms: 0, offsetMinutes: 0 };
const offsetForm = /^ ?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)$/;

/** Parses the part after the date. Null unless it is `T08:00`, with optional seconds and offset. */
function readClock(text: string): Clock | null {
  const hour = pair(text, 11);
  const minute = pair(text, 14);
  let [at, second, ms] = [16, 0, 0];
  if (text[at] === ':') {
    second = pair(text, 17);
    at = 19;
    if (text[at] === '.' || text[at] === ',') {
      const start = ++at;
      while (isDigit(text, at)) at++;
      if (at === start || at - start > 9) return null;
      ms = Number(text.slice(start, Math.min(at, start + 3)).padEnd(3, '0'));
    }
  }
  const separator = text[10];
  if (Number.isNaN(hour + minute + second) || text[13] !== ':' || (separator !== 'T' && separator !== ' ' && separator !== 't'))
    return null;
  const rest = text.length - at;
  if (rest === 0 || (rest === 1 && text[at] === 'Z')) return { hour, minute, second, ms, offsetMinutes: 0 };
  const offset = offsetForm.exec(text.slice(at));
  return offset === null ? null : { hour, minute, second, ms, offsetMinutes: minutesOf(offset) };
}

function minutesOf([, sign, hours = '0', minutes = '0']: RegExpExecArray): number {
  if (Number(hours) > 23 || Number(minutes) > 59) return Number.NaN;
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes));
}

/** Common mistakes, each with a correction. The first match is reported. */
const formFaults: readonly (readonly [form: RegExp, fault: string])[] = [
  [
    /^\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$|^\d{4}[/.]\d{1,2}[/.]\d{1,2}\b/,
    'has a date that is not written with hyphens: write 2026-01-31',
  ],
  [/^\d{8}T\d{2}/i, 'is written without hyphens and colons: write 2026-01-31T08:00:00Z'],
  [/^\d{4}(?:-\d\d?)?$/, 'has no day: write 2026-01-31'],
  [/^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/, `is a number${insteadOfNumber}`],
  [
    /^\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}\b/,
    'has day, month and year in an order that nobody can be sure of: write 2026-01-31, the year first',
  ],
  [/^[+-]\d{6}-/, outOfRange],
  [/^\d{4}-(?:\d-|\d\d-\d(?!\d))/, 'has a month or a day of one digit: write 2026-01-05'],
  [/\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b/i, 'names the month in words: write 2026-01-31T08:00:00Z'],
  [/\d\s*[ap]\.?m\b/i, 'has a clock of twelve hours: write 20:00 for 08:00 PM'],
  [/(?:Z|[+-]\d\d:?\d\d)\[[^\]]+\]$/i, 'names its time zone behind the offset: leave out what is in brackets'],
  [/^\d{4}-\d\d-\d\d.\d\d:\d\d.*[A-Za-z]{2}/, 'names its time zone: write the offset, such as +02:00, or Z for UTC'],
  [/^\d{4}-\d\d-\d\d[Tt ]\d\d(?:$|[Zz+-])/, 'has an hour without minutes: write 08:00'],
  [/[.,]\d{10,}/, 'has more than nine digits of a second: write fewer'],
];

function formFault(text: string): string {
  const plain = text.trim();
  if (plain !== text && typeof readTime(plain) === 'number') return 'has space around it: write it without';
  return formFaults.find(([form]) => form.test(plain))?.[1] ?? noTime;
}

function isWritable(ms: number): boolean {
  return ms >= firstMs && ms <= lastMs;
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 48 && code <= 57;
}

/** Two digits as a number, or NaN. */
function pair(text: string, at: number): number {
  return isDigit(text, at) && isDigit(text, at + 1) ? (text.charCodeAt(at) - 48) * 10 + text.charCodeAt(at + 1) - 48 : Number.NaN;
}

function daysIn(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/** In the proleptic Gregorian calendar. Years begin in March, so that the leap day is the last. */
function daysSince1970(year: number, month: number, day: number): number {
  const y = month > 2 ? year : year - 1;
  const inYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  return y * 365 + Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400) + inYear - 719_468;
}
