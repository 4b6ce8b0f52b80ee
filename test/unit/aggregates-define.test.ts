import assert from 'node:assert/strict';
import test from 'node:test';
import { type AggregateOptions, defineAggregate, defineHandler, type HandlerOptions } from '../../src/aggregates/define.ts';
import type { Processor } from '../../src/aggregates/definition.ts';
import { createProcessors } from '../../src/aggregates/processors.ts';
import { ConfigError } from '../../src/errors.ts';

const same = <S>(state: S): S => state;
const plain = { type: 'thing', initialState: { n: 0 }, evolve: { Made: same } };

function problemsOf(make: () => unknown): readonly string[] {
  try {
    make();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  assert.fail('nothing was found wrong');
}

const aggregateOf = (options: unknown) => defineAggregate(options as AggregateOptions<unknown, string, Record<string, never>>);

test('a definition in plain data has its defaults', () => {
  const aggregate = defineAggregate(plain);
  assert.equal(aggregate.creates, null);
  assert.deepEqual(aggregate.initialState(), { n: 0 });
  assert.equal(aggregate.serialize({ n: 1 }), '{"n":1}');
  assert.deepEqual(aggregate.deserialize('{"n":2}'), { n: 2 });
});

test('each entity has an initial state of its own', () => {
  for (const initialState of [{ list: [] as number[] }, () => ({ list: [] as number[] })]) {
    const aggregate = defineAggregate({ type: 'thing', initialState, evolve: { Made: same } });
    aggregate.initialState().list.push(1);
    assert.deepEqual(aggregate.initialState(), { list: [] });
  }
});

test('everything wrong with an aggregate is said at once', () => {
  const problems = problemsOf(() =>
    aggregateOf({ type: '', initialState: null, creates: [7], evolve: { Made: 'x' }, schema: { Made: {} }, serialize: 'x' }),
  );
  assert.equal(problems.length, 6);
});

const wrong: readonly (readonly [name: string, change: Readonly<Record<string, unknown>>, text: RegExp])[] = [
  ['no type', { type: undefined }, /needs a type/],
  ['no initial state', { initialState: undefined }, /aggregate "thing" needs an initialState/],
  ['an initial state that cannot be copied', { initialState: { f: same } }, /cannot be copied/],
  ['an empty list of creating events', { creates: [] }, /creates/],
  ['a creating event without a rule', { creates: 'Opened' }, /creates names "Opened"/],
  ['a creating event with the name of an object method', { creates: 'toString' }, /creates names "toString"/],
  ['no rules', { evolve: undefined }, /needs evolve/],
  ['an empty set of rules', { evolve: {} }, /needs evolve/],
  ['a rule that is no function', { evolve: { Made: 1 } }, /evolve\.Made is not a function/],
  ['a schema that is none', { schema: 'x' }, /schema is neither/],
  ['a schema for one type that is none', { schema: { Made: { '~standard': {} } } }, /schema\.Made is not a Standard Schema/],
  ['a deserialize that is no function', { deserialize: 1 }, /deserialize is not a function/],
];

for (const [name, change, text] of wrong) {
  test(`an aggregate with ${name} is a ConfigError`, () => {
    const [problem = '', ...others] = problemsOf(() => aggregateOf({ ...plain, ...change }));
    assert.match(problem, text);
    assert.deepEqual(others, []);
  });
}

test('what is no definition at all is a ConfigError', () => {
  for (const nothing of [null, undefined, 7, []]) {
    assert.equal(problemsOf(() => aggregateOf(nothing)).length, 1);
    assert.equal(problemsOf(() => defineHandler(nothing as unknown as HandlerOptions)).length, 1);
  }
  assert.equal(problemsOf(() => defineHandler({} as HandlerOptions)).length, 2);
});

const handle = () => 'done';

test('an entity type finds its own processors, and else those for "*"', () => {
  const own = defineAggregate(plain);
  const any = defineAggregate({ ...plain, type: '*' });
  const audit = defineHandler({ type: '*', handle });
  const mail = defineHandler({ type: 'order', handle });
  const processors = createProcessors([own, any, audit, mail]);
  assert.deepEqual(processors.forType('thing'), { aggregate: own, handlers: [audit] });
  assert.deepEqual(processors.forType('order'), { aggregate: any, handlers: [mail] });
  assert.deepEqual(processors.forType('constructor'), { aggregate: any, handlers: [audit] });
});

test('an entity type without a processor finds none, also when its name is one of JavaScript', () => {
  const processors = createProcessors([defineAggregate(plain)]);
  for (const type of ['other', 'constructor', '__proto__', '']) assert.equal(processors.forType(type), null);
});

test('handlers of one type run in the order given', () => {
  const [first, second] = [defineHandler({ type: 'a', handle }), defineHandler({ type: 'a', handle: () => 2 })];
  assert.deepEqual(createProcessors([first, second]).forType('a')?.handlers, [first, second]);
});

test('plain data becomes a definition', () => {
  const set = createProcessors([plain, { type: 'thing', handle }]).forType('thing');
  assert.equal(set?.aggregate?.evolve.get('Made'), same);
  assert.equal(set.handlers[0]?.handle, handle);
});

test('everything wrong with a list of processors is said at once', () => {
  const aggregate = defineAggregate(plain);
  const handler: Processor = defineHandler({ type: 'a', handle });
  assert.deepEqual(
    problemsOf(() => createProcessors([aggregate, aggregate, handler, handler, 7, { type: 'b', evolve: {}, initialState: 1 }])),
    [
      'there are two aggregates for entities of type "thing"',
      'the same handler is there twice for entities of type "a"',
      'number 5 is neither an aggregate (evolve) nor a handler (handle)',
      'aggregate "b" needs evolve: an object of functions by event type',
    ],
  );
  assert.match(problemsOf(() => createProcessors([]))[0] ?? '', /no processor/);
});

test('the types of state and data are inferred, and mistakes do not compile', () => {
  const inferred = defineAggregate({ type: 'a', initialState: { n: 0 }, evolve: { Set: ({ n }) => ({ n: n + 1 }) } });
  const n: number = inferred.initialState().n;
  // @ts-expect-error The next state is not of the type of the initial one.
  defineAggregate({ type: 'a', initialState: { n: 0 }, evolve: { Set: () => ({ m: 1 }) } });
  // @ts-expect-error Data that no schema describes is unknown.
  defineAggregate({ type: 'a', initialState: { n: 0 }, evolve: { Set: (_state, { data }) => ({ n: data.amount }) } });
  assert.equal(n, 0);
});
