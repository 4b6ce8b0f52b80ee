import assert from 'node:assert/strict';
import test from 'node:test';
import { decideCommand, evolveEvent } from '../../src/aggregates/evolve.ts';
import { defineAggregate } from '../../src/aggregates/define.ts';
import { type Aggregate, type Command, refuse } from '../../src/aggregates/definition.ts';
import { ConfigError, PermanentError } from '../../src/errors.ts';
import { eventOf } from '../support/event-of.ts';

interface Balance {
  readonly balance: number;
}

const account = defineAggregate({
  type: 'account',
  initialState: { balance: 0 } as Balance,
  decide: {
    Deposit: ({ data }: Command<{ amount: number }>) => ({ type: 'Deposited', data }),
    Withdraw: ({ data }: Command<{ amount: number }>, { balance }) =>
      data.amount > balance
        ? refuse('there is not enough', 'overdrawn')
        : [{ type: 'Withdrawn', data }, ...(data.amount === balance ? [{ type: 'Emptied' as const }] : [])],
    Promise: () => Promise.resolve() as never,
  },
  evolve: {
    Deposited: ({ balance }, { data }) => ({ balance: balance + (data as { cents: number }).cents }),
    Withdrawn: (state) => state,
    Emptied: (state) => state,
  },
  upcast: {
    Deposited: [(data) => ({ cents: (data as { amount: number }).amount * 100 }), (data) => ({ ...(data as object), currency: 'EUR' })],
  },
});

const decide = (type: string, data: unknown, balance = 0) =>
  decideCommand(account as Aggregate<Balance>, { id: 'c', type, timestamp: '2026-01-01T00:00:00Z', data, metadata: {} }, { balance });

test('a command leads to events, to several, or to a reason why not with its code', () => {
  assert.deepEqual(decide('Deposit', { amount: 5 }), { ok: true, events: [{ type: 'Deposited', data: { amount: 5 } }] });
  assert.deepEqual(decide('Withdraw', { amount: 5 }, 5), {
    ok: true,
    events: [{ type: 'Withdrawn', data: { amount: 5 } }, { type: 'Emptied' }],
  });
  assert.deepEqual(decide('Withdraw', { amount: 5 }, 4), { ok: false, code: 'overdrawn', detail: 'there is not enough' });
});

test('a command without a rule is refused, whatever its name, and what is no decision is a mistake', () => {
  for (const type of ['Close', 'constructor', '__proto__'])
    assert.deepEqual(
      [decide(type, {})].map((decided) => !decided.ok && decided.code),
      ['unknown_command'],
      type,
    );
  assert.throws(
    () => decide('Promise', {}),
    (error) => error instanceof PermanentError && /must be synchronous/.test(error.message),
  );
});

test('old events are brought up to date before they are evolved, step by step, and newer ones are not guessed at', () => {
  const evolve = (data: unknown, schema_version?: unknown) =>
    evolveEvent(
      account as Aggregate<Balance>,
      { balance: 1 },
      eventOf({ type: 'Deposited', data, metadata: schema_version === undefined ? {} : { schema_version } }),
      { adopts: false },
    );
  assert.deepEqual(evolve({ amount: 5 }), { ok: true, state: { balance: 501 } }, 'without a version it is of the first');
  assert.deepEqual(evolve({ cents: 5 }, 2), { ok: true, state: { balance: 6 } });
  assert.deepEqual(evolve({ cents: 5, currency: 'EUR' }, 3), { ok: true, state: { balance: 6 } });
  for (const version of [4, 0, 1.5, '2', null]) {
    const result = evolve({ cents: 5 }, version);
    assert.equal(!result.ok && result.reason, 'invalid_data', String(version));
  }
});

test('what is wrong with decide, upcast and the version of the schema is said at once', () => {
  const wrong = {
    type: 'a',
    initialState: {},
    evolve: { A: (state: object) => state },
    decide: { Do: 1 },
    upcast: { B: [], A: [1] },
    schemaVersion: 0,
  };
  assert.throws(
    () => defineAggregate(wrong as never),
    (error) => {
      assert.ok(error instanceof ConfigError);
      assert.equal(error.problems.length, 4);
      for (const word of [
        /decide\.Do is not a function/,
        /upcast\.A is not a list of functions/,
        /upcast names "B", which evolve does not know/,
        /schemaVersion/,
      ]) {
        assert.ok(
          error.problems.some((problem) => word.test(problem)),
          String(word),
        );
      }
      return true;
    },
  );
});
