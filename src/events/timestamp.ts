/**
 * When an event happened. ISO 8601 (RFC 3339, with a blank for the `T` or without seconds and offset where a
 * producer writes so); a time without an offset is UTC, because it must not depend on the worker's time zone.
 */

const iso = /^\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?( ?(?:[Zz]|[+-]\d{2}(?::?\d{2})?))?)?$/;

/** Milliseconds since 1970, or null when `text` is no date and time. */
export function timestampMs(text: string): number | null {
  const match = iso.exec(text);
  if (match === null) return null;
  const ms = Date.parse(match[1] === 'Z' && text.charCodeAt(10) === 84 ? text : normalised(text, match[1]));
  return Number.isNaN(ms) ? null : ms;
}

/** Into the one form that every JavaScript engine has to read alike. */
function normalised(text: string, offset: string | undefined): string {
  if (text.length === 10) return text;
  const zone = offset?.trim().toUpperCase() ?? 'Z';
  const local = text.slice(0, offset === undefined ? undefined : -offset.length);
  const hours = /^[+-]\d{2}$/.test(zone) ? `${zone}:00` : zone.replace(/^([+-]\d{2})(\d{2})$/, '$1:$2');
  return `${local.slice(0, 10)}T${local.slice(11).replace(',', '.')}${hours}`;
}

/** The AMQP property: seconds since 1970. */
export function fromAmqpSeconds(seconds: number): number | null {
  const ms = seconds * 1_000;
  return Number.isSafeInteger(ms) && ms > 0 && ms <= 8.64e15 ? ms : null;
}
