import assert from 'node:assert/strict';
import test from 'node:test';
import { describeThrown } from '../../src/aggregates/thrown.ts';
import { causeOf } from '../../src/dead-letters/dead-letter.ts';
import { redactSecrets } from '../../src/printable.ts';
import { eventOf } from '../support/event-of.ts';

class StockError extends Error {}

test('of what is thrown class, words and frames are kept, and its causes behind it', () => {
  const cause = new StockError('sold out');
  const { detail, stack } = describeThrown(new TypeError('no\n stock', { cause }), eventOf());
  assert.equal(detail, 'TypeError: no stock');
  const lines = stack?.split('\n') ?? [];
  assert.match(lines[0] ?? '', /^at .*aggregates-thrown\.test\.ts:\d+:\d+/);
  const at = lines.indexOf('caused by StockError: sold out');
  assert.ok(at > 0 && lines[at + 1]?.startsWith('at '));
});

test('of several errors in one the first is kept as its cause', () => {
  const { detail, stack } = describeThrown(new AggregateError([new StockError('sold out'), new Error('b')], 'none of them'), eventOf());
  assert.equal(detail, 'AggregateError: none of them');
  assert.match(stack ?? '', /^caused by StockError: sold out$/m);
});

test('no credentials and no payload are kept of it, neither of its words nor of its causes', () => {
  const event = eventOf({ data: { card: '4111-1111' }, dataJson: '{ "card": "4111-1111" }' });
  const words =
    'POST https://bob:hunter2@shop.example/x?token=hunter2 Authorization: Bearer hunter2.abc password="hunter2 x" {"card":"4111-1111"} { "card": "4111-1111" }';
  const thrown = new Error(words, { cause: new Error(`${words}\n    at no frame (password=hunter2)`) });
  const { detail, stack } = describeThrown(thrown, event);
  assert.doesNotMatch(`${detail}\n${stack}`, /hunter2|4111|^at no frame/m);
  assert.match(detail, /^Error: POST https:\/\/\*\*\*@shop\.example\/x\?token=\*\*\* .*\[data\] \[data\]$/);
});

test('whatever the words quote of the payload goes: pretty-printed, a part of it, cut off, behind what is cut', () => {
  const data = { customer: { name: 'Ann Other', card: '4111-1111' }, lines: [{ sku: 'x', note: 'for Ann' }], amount: 1 };
  const dataJson = JSON.stringify(data).replace('"amount":1', '"amount":1.0');
  const event = eventOf({ data, dataJson });
  const quotes = [
    JSON.stringify(data, null, 2),
    JSON.stringify(data.customer),
    JSON.stringify(data.customer, null, 1),
    JSON.stringify(data.lines),
    dataJson.slice(0, 40),
    `${'x'.repeat(790)} ${dataJson}`,
    `{"order":${JSON.stringify(data.customer)}}`,
    `${'y'.repeat(16_340)} ${dataJson}`,
    JSON.stringify({ z: 'what the handler made of it', y: 'x'.repeat(200), of: 'Ann' }),
    `a [TypeError: x] before ${JSON.stringify(data.lines)}`,
  ];
  for (const quote of quotes) {
    const { detail, stack } = describeThrown(new Error(`cannot be booked: ${quote} (attempt)`, { cause: new Error(quote) }), event);
    assert.doesNotMatch(`${detail}\n${stack}`, /Ann|4111/, quote);
  }
  const told = 'items[0] is not one of ["a","b"], see {"code":"E17"}';
  assert.equal(describeThrown(new Error(told), event).detail, `Error: ${told}`);
});

test('data that a handler made something of that JSON does not know are no reason to throw', () => {
  const circular: Record<string, unknown> = {};
  circular['self'] = circular;
  for (const data of [
    circular,
    { n: 1n },
    undefined,
    () => 1,
    Symbol('s'),
    {
      toJSON: () => {
        throw new Error('no');
      },
    },
  ]) {
    assert.equal(
      describeThrown(new Error('sold out: {"card":"4111"}'), { ...eventOf(), data, dataJson: '{"card":"4111"}' }).detail,
      'Error: sold out: [data]',
    );
  }
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  assert.deepEqual(describeThrown(proxy, eventOf()), { detail: 'something that cannot be printed', stack: null });
});

test('however much is thrown, what is kept is bounded', () => {
  const deep = (n: number): never =>
    n === 0
      ? (() => {
          throw new Error('x'.repeat(1_000_000));
        })()
      : deep(n - 1);
  try {
    deep(50);
  } catch (error) {
    const endless = error as Error;
    endless.cause = endless;
    const { detail, stack } = describeThrown(endless, eventOf());
    assert.ok(detail.length < 900 && stack !== null && stack.length < 20_000);
  }
});

test('anything can be thrown, also what hides its stack or cannot be printed', () => {
  const hidden = Object.defineProperty(new Error('hidden'), 'stack', {
    get: () => {
      throw new Error('no');
    },
  });
  assert.deepEqual(describeThrown(hidden, eventOf()), { detail: 'Error: hidden', stack: null });
  for (const thrown of [null, undefined, 7, Symbol('s'), 'text', {}]) assert.equal(describeThrown(thrown, eventOf()).stack, null);
  assert.equal(describeThrown(Object.create(null), eventOf()).detail, 'something that cannot be printed');
});

test('whatever names itself a secret is one', () => {
  for (const text of [
    'PGPASSWORD=hunter2',
    'password: hunter2',
    '"client_secret":"hunter2 with spaces"',
    "api_key='hunter2'",
    '?access_token=hunter2&x=1',
    'x-api-key: hunter2',
    'authorization: Basic hunter2==',
    'sent Bearer hunter2-abc',
    'amqp://u:hunter2@h',
    'postgres://u:p@hunter2@h/db',
    'amqp://u:p/hunter2@h/vhost',
    'amqp://u:p@h,amqp://u:hunter2/x@h',
    String.raw`{\"password\":\"hunter2\"}`,
    String.raw`{"body":"{\"a\":\"{\\\"password\\\":\\\"hunter2\\\"}\"}"}`,
    String.raw`{\"password\" : \"say \\\"hi\\\", hunter2\", \"a\": 1}`,
    String.raw`password='it\'s hunter2'`,
    String.raw`\"authorization\":\"Bearer hunter2\"`,
    "secret: { value: 'hunter2' }",
    "secret: { value: { inner: 'x' }, other: 'hunter2' }",
    'token=[abc hunter2]',
    "tokens: [ [ 'abc' ], 'hunter2' ]",
    "'password' => 'hunter2'",
    "pass: 'hunter2'",
    'pass=hunter2',
    'SMTP_PASS=hunter2',
    'STRIPE_SECRET_KEY=hunter2',
    'Cookie: a=hunter2; b=hunter2',
    "'set-cookie': [ 'a=hunter2; Path=/', 'b=hunter2' ]",
    'amqp://u:a"hunter2@h',
    "Invalid URL: 'amqp://u:a'hunter2@h'",
    'the password is hunter2',
    'secret was "hunter two hunter2"',
    'eyJhbGciOiJI.eyJodW50ZXIyIjoi.hunter2',
    '-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----',
  ]) {
    assert.doesNotMatch(redactSecrets(text), /hunter2|eyJ/, text);
  }
  for (const text of [
    'the bearer of bad news',
    'no password was given',
    'at pay (/srv/shop/pay.mjs:3:9)',
    'token expired',
    'the password is wrong',
    'amqp://h,amqp://h/a:b@c',
    'https://shop.example/a@b',
    '{"url":"http://h:80","mail":"a@b","other":\'http://h:80\'}',
    'the order does not pass: amount is 0',
    'the compass: north',
  ])
    assert.equal(redactSecrets(text), text);
});

test('what stands behind a secret stays', () => {
  for (const [text, redacted] of [
    [String.raw`{\"password\":\"hunter2\",\"code\":7}`, String.raw`{\"password\":***,\"code\":7}`],
    ["{ secret: { value: 'x1' }, code: 7 }", '{ secret: ***, code: 7 }'],
    ['token=[abc def] is old', 'token=*** is old'],
    ['Cookie: a=1; b=2 is old', 'Cookie: *** is old'],
    [`'amqp://u:a"b@h' is old`, `'amqp://***@h' is old`],
  ] as const)
    assert.equal(redactSecrets(text), redacted);
});

test('no text takes long to redact, however it repeats what a secret begins with', () => {
  for (const part of [
    'password',
    'pass_',
    'pass: ',
    'pass ',
    'secret{',
    'secret:{',
    'token=[',
    'token=\\"',
    'token\\',
    '\\',
    '=',
    'cookie:;',
    '://a:"',
    'a:b"',
  ])
    for (const text of [
      part.repeat(40_000),
      `secret=\\"${part.repeat(40_000)}`,
      `x://u:${part.repeat(40_000)}`,
      `token${' '.repeat(40_000)}${part}`,
    ])
      assert.ok(redactSecrets(text).length > 0);
});

test('the data are prepared once, however much JSON the message has', (t) => {
  const data = { note: 'x'.repeat(1_000_000) };
  const { replaceAll } = String.prototype;
  let passes = 0;
  t.mock.method(String.prototype, 'replaceAll', function (this: string, ...given: Parameters<typeof replaceAll>) {
    if (this.length > 1_000_000) passes++;
    return replaceAll.apply(this, given);
  });
  const { detail } = describeThrown(new Error('{"a": 1} '.repeat(60)), eventOf({ data, dataJson: JSON.stringify(data) }));
  assert.match(detail, /^Error: \{"a": 1\} /);
  assert.equal(passes, 1);
});

test('a thousand details of one cause are one, whatever ids, numbers, times and values they name', () => {
  const hex = (n: number, digits: number) => ((n + 1) * 2_654_435_761).toString(16).padStart(digits, 'a').slice(0, digits);
  const forms: ((n: number) => string)[] = [
    (n) => `StockError: order-${n} has ${n * 3} of item "sku ${n}" (attempt 5)`,
    (n) => `evolve for "Paid" threw TypeError: no account ${hex(n, 8)}-1234-4abc-8def-${hex(n, 12)}`,
    (n) => `timed out at ${new Date(n * 86_400_000).toISOString()} after ${n / 7} ms`,
    (n) => `key 0x${hex(n, 6)} of user${n}@example.com at 10.0.${n % 200}.${n % 99}:5432`,
    (n) => `waited ${n} ms for sequences ${n} to ${n + 5}`,
    (n) => `no such order: ${n.toString(36)}-7-${hex(n, 12)}`,
    (n) => `can't find 'customer ${n}'`,
  ];
  const causes = forms.map((form) => {
    const found = new Set(Array.from({ length: 1_000 }, (_, n) => causeOf(form(n))));
    assert.equal(found.size, 1, [...found].slice(0, 3).join(' | '));
    return [...found][0];
  });
  assert.equal(new Set(causes).size, forms.length);
  assert.notEqual(causeOf('TypeError: a is not a function'), causeOf('TypeError: b is not a function'));
  assert.ok(causeOf('word '.repeat(1_000)).length <= 201);
});
