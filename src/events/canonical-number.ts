/**
 * The canonical text of a JSON number: as JavaScript prints it (RFC 8785) if a JavaScript number holds its
 * decimal value, else the decimal value itself, so that 9007199254740992 and 9007199254740993, which are
 * equal in JavaScript, stay different. Equal values have equal texts, different values different ones.
 */

/** Decimals with this many digits survive the conversion to a double and back. */
const safeDigits = 15;

/** `source` is a valid JSON number token. */
export function canonicalNumber(source: string): string {
  const printed = String(Number(source));
  if (source === printed && source.length <= safeDigits) return source;
  const exact = decimalOf(source);
  return exact === decimalOf(printed) ? printed : exact;
}

/** `digits` `e` `exponent` without zeros at either end of the digits: a unique text per value. */
function decimalOf(source: string): string {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source);
  if (parts === null) return source;
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = parts;
  const digits = withoutLeadingZeros(whole + fraction);
  if (digits === '') return '0';
  const significant = withoutTrailingZeros(digits);
  return `${sign}${significant}e${sumText(exponent, digits.length - significant.length - fraction.length)}`;
}

/** Adds only at the end of a large exponent: it may have a million digits, for which a BigInt would take about a second. */
function sumText(exponent: string, delta: number): string {
  const isNegative = exponent.startsWith('-');
  const digits = withoutLeadingZeros(exponent.replace(/^[+-]/, ''));
  if (digits.length <= safeDigits) return String(Number(exponent) + delta);
  const low = Number(digits.slice(-safeDigits)) + (isNegative ? -delta : delta);
  const carry = Math.floor(low / 10 ** safeDigits);
  const end = String(low - carry * 10 ** safeDigits).padStart(safeDigits, '0');
  return `${isNegative ? '-' : ''}${withoutLeadingZeros(`${carried(digits.slice(0, -safeDigits), carry)}${end}`)}`;
}

/** `carry` is -1, 0 or 1, and `digits` are more than 0. */
function carried(digits: string, carry: number): string {
  if (carry === 0) return digits;
  const passed = carry > 0 ? '9' : '0';
  let at = digits.length - 1;
  while (at >= 0 && digits[at] === passed) at--;
  const turned = (carry > 0 ? '0' : '9').repeat(digits.length - 1 - at);
  return at < 0 ? `1${turned}` : `${digits.slice(0, at)}${Number(digits[at]) + carry}${turned}`;
}

function withoutLeadingZeros(digits: string): string {
  let start = 0;
  while (start < digits.length && digits.charCodeAt(start) === 48) start++;
  return digits.slice(start);
}

function withoutTrailingZeros(digits: string): string {
  let end = digits.length;
  while (end > 0 && digits.charCodeAt(end - 1) === 48) end--;
  return digits.slice(0, end);
}
