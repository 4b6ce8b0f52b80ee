import assert from 'node:assert/strict';
import test from 'node:test';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { defineAggregate } from '../../src/aggregates/define.ts';
import { type Aggregate, refuse } from '../../src/aggregates/definition.ts';
import { type Evolved, evolveEvent } from '../../src/aggregates/evolve.ts';
import { eventOf } from '../support/event-of.ts';

interface Account {
  readonly balance: number;
}

/** Any Standard Schema will do; this one makes a number of `{ amount }`. */
const amount: StandardSchemaV1<unknown, { readonly amount: number }> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate(value) {
      const given = (value as { amount?: unknown } | null)?.amount;
      const issues = [{ message: 'is not a number', path: ['amount'] }];
      return typeof given === 'number' ? { value: { amount: given } } : { issues };
    },
  },
};

const account = defineAggregate({
  type: 'account',
  initialState: { balance: 0 },
  creates: ['Opened', 'Imported'],
  schema: { Deposited: amount, Withdrawn: amount },
  evolve: {
    Opened: (state) => state,
    Imported: () => ({ balance: 100 }),
    Deposited: ({ balance }, { data }) => ({ balance: balance + data.amount }),
    Withdrawn: ({ balance }, { data }) =>
      data.amount > balance ? refuse('an account is never overdrawn') : { balance: balance - data.amount },
    Broken() {
      throw new RangeError('no such thing');
    },
  },
});

function evolve(state: Account | null, type: string, data: unknown = null, adopts = false): Evolved<Account> {
  return evolveEvent(account, state, eventOf({ type, data }), { adopts });
}

function failureOf<State>(evolved: Evolved<State>): { readonly reason: string; readonly detail: string } {
  assert.ok(!evolved.ok, 'it was applied');
  return evolved;
}

/** An aggregate whose only rule does what is being tested. */
function evolvedBy(rule: () => unknown, schema?: StandardSchemaV1): Evolved<unknown> {
  const aggregate = { ...account, evolve: new Map([['*', rule]]), schema: new Map(schema && [['*', schema]]), creates: null };
  return evolveEvent(aggregate as unknown as Aggregate, null, eventOf({ type: 'Any' }), { adopts: false });
}

test('state and event make the next state', () => {
  assert.deepEqual(evolve({ balance: 1 }, 'Deposited', { amount: 2 }), { ok: true, state: { balance: 3 } });
});

test('an entity begins with the initial state', () => {
  assert.deepEqual(evolve(null, 'Opened'), { ok: true, state: { balance: 0 } });
});

test('only a creating event may come first, and the detail names those that do', () => {
  const { reason, detail } = failureOf(evolve(null, 'Deposited', { amount: 1 }));
  assert.equal(reason, 'not_created');
  assert.match(detail, /"Deposited".*"Opened" or "Imported"/);
});

test('an entity that is adopted in mid-stream begins with any event', () => {
  assert.deepEqual(evolve(null, 'Deposited', { amount: 5 }, true), { ok: true, state: { balance: 5 } });
});

test('what the rules refuse is refused in their words', () => {
  assert.deepEqual(evolve({ balance: 1 }, 'Withdrawn', { amount: 2 }), {
    ok: false,
    reason: 'refused',
    detail: 'an account is never overdrawn',
  });
});

test('a refusal made by another copy of the package is one', () => {
  const foreign = Object.assign(Object.create(null) as object, { detail: 'by the other', [Symbol.for('inorder.refused')]: true });
  assert.deepEqual(
    evolvedBy(() => foreign),
    { ok: false, reason: 'refused', detail: 'by the other' },
  );
});

test('a refusal has no secret in its words, and is bounded', () => {
  const { detail } = failureOf(evolvedBy(() => refuse(`password=hunter2 ${'x'.repeat(10_000)}`)));
  assert.match(detail, /^password=\*\*\* x{1,800}…$/);
});

test('an event type without a rule is refused, also when its name is one of JavaScript', () => {
  for (const type of ['Closed', 'constructor', 'toString', '__proto__', 'hasOwnProperty']) {
    assert.equal(failureOf(evolve({ balance: 1 }, type)).reason, 'refused', type);
  }
});

test('a rule for "*" takes every event type that has none', () => {
  const counter = defineAggregate({
    type: 'any',
    initialState: { n: 0 },
    evolve: { Reset: () => ({ n: 0 }), '*': ({ n }) => ({ n: n + 1 }) },
  });
  const apply = (type: string) => evolveEvent(counter, { n: 4 }, eventOf({ type }), { adopts: false });
  assert.deepEqual(
    [apply('Reset'), apply('constructor')],
    [
      { ok: true, state: { n: 0 } },
      { ok: true, state: { n: 5 } },
    ],
  );
});

test('data that does not satisfy the schema names the field', () => {
  const { reason, detail } = failureOf(evolve({ balance: 1 }, 'Deposited', { amount: '1' }));
  assert.deepEqual([reason, detail], ['invalid_data', 'data.amount: is not a number']);
});

test('a rule sees what the schema made of the data', () => {
  const doubling: StandardSchemaV1<unknown, number> = {
    '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: Number(value) * 2 }) },
  };
  const sum = defineAggregate({
    type: 'sum',
    initialState: { n: 0 },
    schema: doubling,
    evolve: { Add: ({ n }, { data }) => ({ n: n + data }) },
  });
  assert.deepEqual(evolveEvent(sum, null, eventOf({ type: 'Add', data: 21 }), { adopts: false }), { ok: true, state: { n: 42 } });
});

test('a rule that throws fails the event with its message, bounded', () => {
  const { reason, detail } = failureOf(evolve({ balance: 1 }, 'Broken'));
  assert.deepEqual([reason, detail], ['handler_failed', 'evolve for "Broken" threw RangeError: no such thing']);
  const long = failureOf(
    evolvedBy(() => {
      throw new Error('x'.repeat(10_000));
    }),
  );
  assert.ok(long.detail.length < 900);
});

test('whatever is thrown, nothing escapes', () => {
  for (const thrown of [
    undefined,
    null,
    'text',
    Symbol('s'),
    Object.create(null),
    {
      toString: () => {
        throw new Error('no');
      },
    },
  ]) {
    assert.equal(
      failureOf(
        evolvedBy(() => {
          throw thrown;
        }),
      ).reason,
      'handler_failed',
    );
  }
});

test('a rule must return a state, and at once', () => {
  for (const returned of [undefined, null]) assert.match(failureOf(evolvedBy(() => returned)).detail, /must return the next state/);
  assert.match(failureOf(evolvedBy(async () => ({ n: 1 }))).detail, /must be synchronous/);
});

test('an asynchronous schema fails the event and says so, and its rejection ends nothing', async (t) => {
  const unhandled = t.mock.fn();
  process.on('unhandledRejection', unhandled);
  t.after(() => process.off('unhandledRejection', unhandled));
  const schema: StandardSchemaV1 = { '~standard': { version: 1, vendor: 'test', validate: () => Promise.reject(new Error('later')) } };
  const { reason, detail } = failureOf(evolvedBy(() => ({}), schema));
  assert.equal(reason, 'handler_failed');
  assert.match(detail, /asynchronous/);
  assert.match(failureOf(evolvedBy(() => Promise.reject(new Error('later')))).detail, /synchronous/);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(unhandled.mock.callCount(), 0);
});
