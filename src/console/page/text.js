/** Numbers, times and foreign text as people read them. Pure. */

const grouping = new Intl.NumberFormat('en-US');

/** @param {number | null | undefined} value */
export function number(value) {
  return value === null || value === undefined ? '–' : grouping.format(value);
}

/** One of something or several. @param {number} value @param {string} one @param {string} [many] */
export function counted(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** Per second. @param {number | null} value */
export function rate(value) {
  if (value === null) return '–';
  return value > 0 && value < 10 ? value.toFixed(1) : number(Math.round(value));
}

/** @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, '0')} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, '0')} min` : `${Math.floor(hours / 24)} d`;
}

/** How long ago, in one unit. @param {string | null} iso @param {number} nowMs */
export function ago(iso, nowMs) {
  if (iso === null) return '–';
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(iso)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)} h ago` : `${Math.floor(seconds / 86_400)} d ago`;
}

/** `2026-01-31 08:00:00`, in UTC like everything in the logs. @param {string | null} iso */
export function time(iso) {
  return iso === null ? '–' : iso.replace('T', ' ').replace(/(\.\d+)?Z$/, '');
}

/** `4` or `4–9`. @param {number} from @param {number} to */
export function range(from, to) {
  return from === to ? number(from) : `${number(from)}–${number(to)}`;
}

// Control characters, invisible formatting such as bidirectional overrides, lone surrogates, line separators.
const invisible = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;
const invisibleButLines = /[^\P{Cc}\n]|[\p{Cf}\p{Cs}\u2028\u2029]/gu;

/** Text from outside on one line: what cannot be seen is written out, so that no id looks like another. @param {string} text */
export function visible(text) {
  return text.replace(invisible, escaped);
}

/** The same with its line ends. @param {string} text */
export function visibleLines(text) {
  return text.replace(invisibleButLines, escaped);
}

/** @param {string} character */
function escaped(character) {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

/**
 * What the header says of the stream, and in which tone: an answer alone does not make it live.
 * @param {Pick<import('./state.js').State, 'locked' | 'silence' | 'overview'>} state
 * @returns {readonly [tone: string, text: string]}
 */
export function healthOf({ locked, silence, overview }) {
  if (locked) return ['', 'locked'];
  if (silence !== null) return ['off', 'no answer'];
  const isWorking = overview === null || (overview.problems.length === 0 && overview.shards.every(({ state }) => state !== 'halted'));
  return isWorking ? ['on', 'live'] : ['off', 'not all of it works'];
}
