/**
 * The data of an order's events, as a Standard Schema by event type, and their exact sums. Written by hand, so that the built-in
 * needs no schema library; unknown fields are ignored.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { isJsonObject } from '../events/json-body.ts';

export interface OrderItem {
  readonly sku: string;
  readonly quantity: number;
  /** The price of one piece. */
  readonly price: number;
}

export interface OrderCreatedData {
  readonly items: readonly OrderItem[];
  /** Null: computed. */
  readonly total: number | null;
}

export interface ItemAddedData {
  readonly item: OrderItem;
  /** The new total of the order; null: computed. */
  readonly total: number | null;
}

export interface OrderUpdatedData {
  /** Replaces the items; null keeps them. */
  readonly items: readonly OrderItem[] | null;
  readonly total: number | null;
}

export const orderSchema = {
  OrderCreated: schemaOf((data, issues): OrderCreatedData => ({ items: readItems(data, issues) ?? [], total: readTotal(data, issues) })),
  ItemAdded: schemaOf((data, issues): ItemAddedData => {
    const nested = 'item' in data;
    return { item: readItem(nested ? data.item : data, nested ? ['item'] : [], issues), total: readTotal(data, issues) };
  }),
  OrderUpdated: schemaOf((data, issues): OrderUpdatedData => ({ items: readItems(data, issues), total: readTotal(data, issues) })),
};

type Data = Readonly<Record<string, unknown>>;
type Issues = StandardSchemaV1.Issue[];

function schemaOf<T>(read: (data: Data, issues: Issues) => T): StandardSchemaV1<unknown, T> {
  const validate = (value: unknown): StandardSchemaV1.Result<T> => {
    const issues: Issues = [];
    if (value !== null && !isJsonObject(value)) return { issues: [{ message: 'is not an object' }] };
    const data = read(value ?? {}, issues);
    return issues.length > 0 ? { issues } : { value: data };
  };
  return { '~standard': { version: 1, vendor: 'inorder', validate } };
}

function readItems({ items }: Data, issues: Issues): readonly OrderItem[] | null {
  if (items == null) return null;
  if (Array.isArray(items)) return items.map((item, index) => readItem(item, ['items', index], issues));
  issues.push({ message: 'is not a list', path: ['items'] });
  return null;
}

function readItem(value: unknown, path: readonly PropertyKey[], issues: Issues): OrderItem {
  const { sku, id, quantity, price }: Data = isJsonObject(value) ? value : {};
  if (!isJsonObject(value)) issues.push({ message: 'is not an object', path });
  return {
    sku: readSku(sku ?? id, path, issues),
    quantity: readNumber(
      quantity,
      [...path, 'quantity'],
      issues,
      'is not a whole number from 1 up',
      (n) => Number.isSafeInteger(n) && n >= 1,
    ),
    price: readNumber(price, [...path, 'price'], issues, 'is not an amount from 0 up', isAmount),
  };
}

function readSku(value: unknown, path: readonly PropertyKey[], issues: Issues): string {
  if (typeof value === 'string' && value !== '') return value;
  issues.push({ message: 'is missing or no text', path: [...path, 'sku'] });
  return '';
}

function readTotal({ total }: Data, issues: Issues): number | null {
  return total == null ? null : readNumber(total, ['total'], issues, 'is not an amount from 0 up', isAmount);
}

function readNumber(
  value: unknown,
  path: readonly PropertyKey[],
  issues: Issues,
  fault: string,
  isGood: (value: number) => boolean,
): number {
  if (typeof value === 'number' && isGood(value)) return value;
  issues.push({ message: fault, path });
  return 0;
}

/** Limits amounts to where decimal arithmetic is cheap: 1e300 has three hundred digits. */
function isAmount(value: number): boolean {
  return value === 0 || (value >= 1e-9 && value < 1e15);
}

interface Decimal {
  readonly units: bigint;
  /** Digits behind the point. */
  readonly scale: number;
}

interface Line {
  readonly price: number;
  readonly quantity: number;
}

/**
 * `base` plus every price times its quantity, in decimal arithmetic: 0.1 + 0.2 is 0.3. Inputs and result are JavaScript numbers, with
 * the decimal value that they print as. A sum that a number cannot hold exactly is null, never rounded.
 */
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
