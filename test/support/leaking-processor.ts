/**
 * A PROCESSOR whose failures have secrets in them, in every way in which JavaScript lets something be thrown: what it does with an event
 * is named by its entity.
 */
import { defineAggregate, defineHandler, type Refused, refuse } from '../../src/index.ts';

/** What must appear nowhere. */
export const secret = 'hunter2';

const words = [
  `POST https://bob:${secret}@shop.example/x?api_key=${secret}`,
  `password=${secret} Authorization: Bearer ${secret}.abc`,
  'x'.repeat(1_000_000),
].join(' ');

const thrown: Readonly<Record<string, () => unknown>> = {
  message: () => new Error(words),
  lines: () => new Error(`it failed\n    at password=${secret}\n{"token":"${secret}"}`),
  causes: () => new Error('outer', { cause: new TypeError(words, { cause: new Error(words) }) }),
  several: () => new AggregateError([new Error(words)], words, { cause: new Error(words) }),
  name: () => Object.assign(new Error('named'), { name: words }),
  stack: () => Object.assign(new Error('quiet'), { stack: `Error: quiet\n    at pay (${words})` }),
  code: () => Object.assign(new Error('coded'), { code: words, headers: { authorization: secret } }),
  text: () => words,
  object: () => ({ password: secret, toString: () => words }),
};

const made: Readonly<Record<string, () => unknown>> = {
  json: () => ({
    toJSON() {
      throw new Error(words);
    },
  }),
};

const evolved: Readonly<Record<string, () => { readonly n: number } | Refused>> = {
  evolve() {
    throw new Error(words);
  },
  refused: () => refuse(words),
  state: () =>
    Object.defineProperty({ n: 1 }, 'n', {
      enumerable: true,
      get() {
        throw new Error(words);
      },
    }),
};

/** The entities. */
export const leaks: readonly string[] = [...Object.keys(thrown), ...Object.keys(made), ...Object.keys(evolved)];

export default [
  defineAggregate({
    type: 'trace',
    initialState: { n: 0 },
    evolve: { '*': ({ n }, { entityId }) => evolved[entityId]?.() ?? { n: n + 1 } },
  }),
  defineHandler({
    type: 'trace',
    async handle({ entityId }) {
      if (thrown[entityId] !== undefined) throw thrown[entityId]();
      return made[entityId]?.();
    },
  }),
];
