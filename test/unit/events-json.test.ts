import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { canonicalNumber } from '../../src/events/exact-number.ts';
import { canonicalJson, scanJson, scanMembers } from '../../src/events/json-scan.ts';

const key = fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('', '1', '10', '9', 'constructor', 'é', 'e\u0301', '"', '\\', 'a:b,c'));
const { value: json } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false, 0, -1, 1.5, 1e21, 1e-7),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: 'grapheme' }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(key.filter((name) => name !== '__proto__'), tie('value'), { maxKeys: 5 }),
  ),
}));

/** The same value with every object's keys in another order, where JavaScript lets them be. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).reverse().map(([name, inner]) => [name, reversed(inner)]));
}

/** An independent reading of "sorted keys, no spaces". */
function plainCanonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(plainCanonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const keys = Object.keys(value).sort();
  return `{${keys.map((name) => `${JSON.stringify(name)}:${plainCanonical((value as Record<string, unknown>)[name])}`).join(',')}}`;
}

test('canonical JSON has sorted keys at every depth, no spaces, and does not depend on the order of writing', () => {
  fc.assert(
    fc.property(json, fc.constantFrom('', ' ', '\n\t'), (value, space) => {
      const expected = plainCanonical(value);
      assert.equal(canonicalJson(value), expected);
      assert.equal(canonicalJson(reversed(value)), expected);
      const spaced = scanJson(`${space}${JSON.stringify(reversed(value), null, space)}${space}`, 64);
      assert.deepEqual(spaced, { ok: true, found: expected });
      assert.deepEqual(JSON.parse(expected), JSON.parse(JSON.stringify(value)));
    }),
    { numRuns: 1_000 },
  );
});

test('members come with the text that was written', () => {
  const scan = scanMembers('{ "b" : [ 1.0, 2 ] , "\\u0061":{"y":1,"x":10000000000000000000000.0} }', 4);
  assert.deepEqual(scan, {
    ok: true,
    found: [
      { key: 'b', source: '[ 1.0, 2 ]', canonical: '[1,2]' },
      { key: 'a', source: '{"y":1,"x":10000000000000000000000.0}', canonical: '{"x":1e+22,"y":1}' },
    ],
  });
});

test('a key that occurs twice is found at every depth, however it is written', () => {
  for (const text of ['{"a":1,"a":1}', '[{"b":0,"a":1,"c":2,"a":1}]', '{"x":{"a":1,"\\u0061":1}}', '{"x":[{"":1,"":2}]}']) {
    assert.equal(scanJson(text, 64).ok, false, text);
  }
  assert.equal(scanMembers('{"b":1,"a":1,"b":1}', 64).ok, false);
  assert.equal(scanJson('{"a":{"a":{"a":[{"a":1},{"a":1}]}}}', 64).ok, true);
});

test('a string that looks like structure is none', () => {
  assert.deepEqual(scanJson('{"a":"{\\"a\\":1,","b":"}]["}', 1), { ok: true, found: '{"a":"{\\"a\\":1,","b":"}]["}' });
});

test('numbers of one value have one text, and those of different values different ones', () => {
  const part = fc.stringMatching(/^[0-9]{1,20}$/);
  const number = fc.tuple(fc.constantFrom('', '-'), part, fc.option(part), fc.option(fc.integer({ min: -30, max: 30 })));
  fc.assert(
    fc.property(number, number, (a, b) => {
      const [one, other] = [tokenOf(a), tokenOf(b)];
      assert.equal(canonicalNumber(one) === canonicalNumber(other), exact(a) === exact(b), `${one} and ${other}`);
      assert.equal(Number(canonicalNumber(one)), Number(one) + 0);
    }),
    { numRuns: 2_000 },
  );
});

type Parts = [sign: string, whole: string, fraction: string | null, exponent: number | null];

function tokenOf([sign, whole, fraction, exponent]: Parts): string {
  return `${sign}${BigInt(whole)}${fraction === null ? '' : `.${fraction}`}${exponent === null ? '' : `e${exponent}`}`;
}

/** The value in units of 10^-60, which all of these are whole multiples of. */
function exact([sign, whole, fraction, exponent]: Parts): bigint {
  const units = BigInt(whole + (fraction ?? '')) * 10n ** BigInt(60 - (fraction ?? '').length + (exponent ?? 0));
  return sign === '-' ? -units : units;
}

test('a value that JSON cannot say exactly has no canonical text', () => {
  assert.throws(() => canonicalJson({ text: '\ud800' }), /lone surrogate/);
  assert.throws(() => canonicalJson(JSON.parse('{"__proto__":1}')), /__proto__/);
});
