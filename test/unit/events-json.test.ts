import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { canonicalNumber, canonicalJson, scanJson, scanMembers } from '../../src/events/json-scanner.ts';

const key = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('', '1', '10', '9', 'constructor', 'é', 'e\u0301', '"', '\\', 'a:b,c'),
);
const { value: json } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false, 0, -1, 1.5, 1e21, 1e-7),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: 'grapheme' }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      key.filter((name) => name !== '__proto__'),
      tie('value'),
      { maxKeys: 5 },
    ),
  ),
}));

/** The same value with every object's keys in another order, where JavaScript lets them be. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, inner]) => [name, reversed(inner)]),
  );
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

test('a sum in an exponent that no number can hold is exact', () => {
  const nines = '9'.repeat(20);
  assert.equal(canonicalNumber(`10e${nines}`), `1e1${'0'.repeat(20)}`);
  assert.equal(canonicalNumber(`0.1e1${'0'.repeat(20)}`), `1e${nines}`);
  assert.equal(canonicalNumber(`10e-1${'0'.repeat(20)}`), `1e-${nines}`);
  assert.equal(canonicalNumber(`0.1e-${nines}`), `1e-1${'0'.repeat(20)}`);
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }), fc.nat(400), (exponent, zeros) => {
      const huge = exponent < 0n ? exponent - 10n ** 16n : exponent + 10n ** 16n;
      assert.equal(canonicalNumber(`7${'0'.repeat(zeros)}e${huge}`), `7e${huge + BigInt(zeros)}`);
      assert.equal(
        canonicalNumber(`0.${'0'.repeat(zeros)}7e+000${huge < 0n ? -huge : huge}`),
        `7e${(huge < 0n ? -huge : huge) - BigInt(zeros + 1)}`,
      );
    }),
  );
});

/** In units of reading a text of the same length that has nothing to work on: the machine's speed does not count. */
function costOf(text: string): number {
  const spent = (work: () => unknown) => {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  const plain = `"${'x'.repeat(text.length)}\\n"`;
  const best = (one: string) => Math.min(...[1, 2, 3, 4, 5].map(() => spent(() => [JSON.parse(one), scanJson(one, 64)])));
  return best(text) / Math.max(500, best(plain));
}

test('a number costs no more than a text of its length, wherever its million digits are', () => {
  const n = 1_000_000;
  const many = '7'.repeat(n);
  for (const [where, number] of Object.entries({
    whole: many,
    fraction: `0.${many}`,
    exponent: `1e${many}`,
    'negative exponent': `1e-${many}`,
    zeros: `1${'0'.repeat(n)}`,
    'zeros of an exponent': `1e${'0'.repeat(n)}1`,
    carries: `10e${'9'.repeat(n)}`,
  })) {
    const cost = costOf(number);
    // What grows with the square of the digits costs hundreds.
    assert.ok(cost < 25, `${where}: ${cost} times`);
  }
});
