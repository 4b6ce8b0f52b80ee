/**
 * Sums of money in decimal arithmetic: 0.1 + 0.2 is 0.3. Inputs and results are JavaScript numbers, with the
 * decimal value that they print as; the sums are whole hundredths or thousandths. A result that a number
 * cannot hold exactly is null, never rounded.
 */

interface Decimal {
  readonly units: bigint;
  /** Digits behind the point. */
  readonly scale: number;
}

interface Line {
  readonly price: number;
  readonly quantity: number;
}

/** `base` plus every price times its quantity; null if no number prints as the sum. */
export function addUp(base: number, lines: readonly Line[]): number | null {
  return addUpWhole(base, lines) ?? addUpDecimals(base, lines);
}

/** For amounts in minor units: null unless every intermediate value is a safe integer, and so exact. */
function addUpWhole(base: number, lines: readonly Line[]): number | null {
  let sum = base;
  if (!Number.isSafeInteger(sum)) return null;
  for (const { price, quantity } of lines) {
    if (!Number.isSafeInteger(price) || !Number.isSafeInteger(quantity)) return null;
    const amount = price * quantity;
    sum += amount;
    if (!Number.isSafeInteger(amount) || !Number.isSafeInteger(sum)) return null;
  }
  return sum;
}

function addUpDecimals(base: number, lines: readonly Line[]): number | null {
  const terms = [decimal(base), ...lines.map(({ price, quantity }) => times(decimal(price), decimal(quantity)))];
  const scale = terms.reduce((most, term) => Math.max(most, term.scale), 0);
  let units = 0n;
  for (const term of terms) units += term.units * 10n ** BigInt(scale - term.scale);
  return toNumber({ units, scale });
}

function decimal(value: number): Decimal {
  const [mantissa = '0', exponent = '0'] = String(value).split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const scale = fraction.length - Number(exponent);
  const units = BigInt(whole + fraction);
  return scale < 0 ? { units: units * 10n ** BigInt(-scale), scale: 0 } : { units, scale };
}

function times(a: Decimal, b: Decimal): Decimal {
  return { units: a.units * b.units, scale: a.scale + b.scale };
}

function toNumber({ units, scale }: Decimal): number | null {
  const text = String(units).padStart(scale + 1, '0');
  const value = Number(`${text.slice(0, text.length - scale)}.${text.slice(text.length - scale)}0`);
  const held = decimal(value);
  const isExact = held.units * 10n ** BigInt(Math.max(0, scale - held.scale)) === units * 10n ** BigInt(Math.max(0, held.scale - scale));
  return isExact ? value : null;
}
