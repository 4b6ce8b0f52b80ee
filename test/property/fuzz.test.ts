/**
 * A short run of each target of `npm run fuzz`, and the proof that a run can fail: defects are planted in what is tried, of the kind
 * that such code has, and each has to be found by its symptom.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../src/errors.ts';
import type { Event } from '../../src/events/event.ts';
import { type FuzzResult, fuzz, symptomOf, type Target } from './fuzz-engine.ts';
import { shipped, type Subjects, type TargetName, targetNames, targetsOf } from './fuzz-targets.ts';

const inputs = 1_500;
const seed = 1;

for (const name of targetNames) {
  test(`nothing that is put into it breaks: ${name}`, async () => {
    const { failure, inputs: ran, outcomes } = await fuzz(targetsOf()[name], { inputs, seed });
    assert.equal(failure, null, JSON.stringify(failure));
    assert.equal(ran, inputs);
    assert.ok(outcomes >= 20, `only ${outcomes} different outcomes`);
  });
}

interface Planted {
  readonly target: TargetName;
  readonly defect: string;
  readonly subjects: Partial<Subjects>;
  readonly symptom: RegExp;
  /** How many at most, if not 20,000. */
  readonly inputs?: number;
}

/** What an event becomes, where there is one. */
function withEvent(change: (event: Event) => Event): Partial<Subjects> {
  return {
    decodeMessage(message, options) {
      const decoded = shipped.decodeMessage(message, options);
      return decoded.ok ? { ok: true, event: change(decoded.event) } : decoded;
    },
  };
}

const kept: unknown[] = [];

const planted: readonly Planted[] = [
  {
    target: 'decoder',
    defect: 'a reason that is not of the list',
    subjects: {
      decodeMessage(message, options) {
        const decoded = shipped.decodeMessage(message, options);
        return decoded.ok ? decoded : { ok: false, refusal: { ...decoded.refusal, reason: 'out_of_order' } };
      },
    },
    symptom: /out_of_order is no reason of the decoder/,
  },
  {
    target: 'decoder',
    defect: 'the text of a message in the message of its refusal',
    subjects: {
      decodeMessage(message, options) {
        const decoded = shipped.decodeMessage(message, options);
        if (decoded.ok) return decoded;
        return { ok: false, refusal: { ...decoded.refusal, detail: `${decoded.refusal.detail}: ${Buffer.from(message.body).toString()}` } };
      },
    },
    symptom: /the detail is not one short line/,
  },
  {
    target: 'envelope',
    defect: 'numbers go through JavaScript',
    subjects: withEvent((event) => ({ ...event, dataJson: JSON.stringify(event.data), data: { ...Object(event.data) } })),
    symptom: /says something else than data|another one once it is written down/,
  },
  {
    target: 'envelope',
    defect: 'metadata that inherits what a message said',
    subjects: withEvent((event) => ({ ...event, metadata: Object.create(event.metadata) as Event['metadata'] })),
    symptom: /an object of an event inherits what a message said/,
  },
  {
    target: 'cloudevents',
    defect: 'a sequence that is no whole number',
    subjects: withEvent((event) => ({ ...event, sequence: event.sequence === null ? null : event.sequence / 2 })),
    symptom: /an event is accepted with the sequence/,
  },
  {
    target: 'headers',
    defect: 'headers are looked up with their prototypes',
    subjects: {
      readBrokerDeath: (headers) =>
        shipped.readBrokerDeath({ 'x-death': (headers as { 'x-death': { reason: string }[] })['x-death']?.[0]?.reason.trim() }),
    },
    symptom: /it throws TypeError/,
  },
  {
    target: 'headers',
    defect: 'everything named like a trace is one',
    subjects: { traceIdIn: (headers) => (typeof headers.traceparent === 'string' ? headers.traceparent.split('-')[1] : undefined) },
    symptom: /a trace id is/,
  },
  {
    target: 'ndjson',
    defect: 'each piece of a file is decoded by itself',
    subjects: {
      readInput(input, request) {
        async function* bytes() {
          for await (const piece of input.bytes) yield Buffer.from(Buffer.from(piece).toString());
        }
        return shipped.readInput({ ...input, bytes: bytes() }, request);
      },
    },
    symptom: /a file in pieces is read otherwise than whole/,
  },
  {
    target: 'csv',
    defect: 'quotes are lost on the way to the message',
    subjects: {
      async *lineEvents(lines, options) {
        for await (const event of shipped.lineEvents(lines, options))
          yield { ...event, body: Buffer.from(event.body.toString().replaceAll('\\"', '')) };
      },
    },
    symptom: /a worker reads another event than was published/,
  },
  {
    target: 'urls',
    defect: 'a refused URL is shown',
    subjects: {
      loadConfig(env) {
        try {
          return shipped.loadConfig(env);
        } catch (error) {
          throw new ConfigError([`${(error as Error).message} (${env.AMQP_URL ?? env.REDIS_URL ?? ''})`]);
        }
      },
    },
    symptom: /a problem tells the password/,
  },
  {
    target: 'variables',
    defect: 'numbers are what Number makes of them',
    subjects: {
      loadConfig(env) {
        const config = shipped.loadConfig({ ...env, SHARDS: '8', WORKER_SHARDS: 'all' });
        const broker = Object.freeze({ ...config.broker, shards: env.SHARDS === undefined ? 8 : Number(env.SHARDS), workerShards: [0] });
        return Object.freeze({ ...config, broker });
      },
    },
    symptom: /a limit is/,
  },
  {
    target: 'arguments',
    defect: 'an option is looked up with its prototype',
    subjects: {
      parseArguments(command, words) {
        const args = shipped.parseArguments(command, words);
        const inherited: object = words.includes('--') ? { constructor: true } : {};
        return args === null ? null : { ...args, options: Object.assign({}, args.options, inherited) };
      },
    },
    symptom: /is given /,
  },
  {
    target: 'decoder',
    defect: 'everything that was decoded is kept',
    subjects: {
      decodeMessage(message, options) {
        kept.push(new Array(1_000).fill(kept.length));
        return shipped.decodeMessage(message, options);
      },
    },
    symptom: /the heap grew by \d+ bytes with the number of inputs/,
    inputs: 2_000,
  },
  {
    target: 'csv',
    defect: 'what a line says is merged into an object that all share',
    subjects: {
      async *lineEvents(lines, options) {
        for await (const event of shipped.lineEvents(lines, options)) {
          const shared: Record<string, Record<string, unknown>> = {};
          for (const [name, value] of Object.entries(event.event.data as object))
            shared[name === 'n' ? '__proto__' : name]!['polluted'] ??= value;
          yield event;
        }
      },
    },
    symptom: /it throws TypeError|it changes what all objects inherit/,
  },
];

for (const { target, defect, subjects, symptom, inputs: most = 20_000 } of planted) {
  test(`a planted defect is found: ${target}, ${defect}`, async () => {
    const { failure } = await fuzz(targetsOf({ ...shipped, ...subjects })[target], { inputs: most, seed, shrinkTries: 0 });
    kept.splice(0);
    assert.match(failure?.symptom ?? 'nothing', symptom);
  });
}

const echo: Omit<Target, 'run'> = { name: 'echo', takes: 'text', maxLength: 100, corpus: [['a b c'], ['"x":1']], words: ['needle', 'hay'] };

test('what fails is cut down to what it takes', async () => {
  const run = ([text = '']: readonly string[]) => {
    if (text.includes('needle')) throw new Error('found');
    return text.slice(0, 1);
  };
  const { failure } = await fuzz({ ...echo, run }, { inputs: 10_000, seed });
  assert.deepEqual(failure, { symptom: 'it throws Error: found', input: ['needle'] });
});

test('a seed draws the same inputs again', async () => {
  const drawn = async (from: number) => {
    const all: string[] = [];
    const run = (input: readonly string[]) => {
      all.push(input.join());
      return '';
    };
    await fuzz({ ...echo, run }, { inputs: 200, seed: from });
    return all;
  };
  assert.deepEqual(await drawn(7), await drawn(7));
  assert.notDeepEqual(await drawn(7), await drawn(8));
});

test('what takes too much processor time fails, whatever else the machine does', async () => {
  const spin = ([text = '']: readonly string[]) => {
    const before = process.cpuUsage();
    while (text.includes('needle') && process.cpuUsage(before).user < 60_000);
    return '';
  };
  const found = await symptomOf({ ...echo, run: spin }, ['needle'], 50);
  assert.equal(found, 'it takes more than 50 ms of processor time');
  assert.equal(await symptomOf({ ...echo, run: spin }, ['hay'], 50), null);
});

test('a name that all objects would inherit is found, and taken away again', async () => {
  const run = () => {
    (Object.prototype as Record<string, unknown>)['polluted'] = 1;
    return '';
  };
  const result: FuzzResult = await fuzz({ ...echo, run }, { inputs: 1, seed });
  assert.equal(result.failure?.symptom, 'it changes what all objects inherit');
  assert.equal('polluted' in {}, false);
});
