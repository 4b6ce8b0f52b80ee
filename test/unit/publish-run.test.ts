import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConfigError } from '../../src/errors.ts';
import { encodeEvent, type EncodedEvent } from '../../src/events/encode.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { createPublisher, type PublisherOptions } from '../../src/publishing/create-publisher.ts';
import { progressLine } from '../../src/cli/publish.ts';
import { isComplete, publishInput, type PublishInputOptions, publishStream } from '../../src/publishing/publish-input.ts';
import type { TextLine } from '../../src/publishing/text-lines.ts';
import type { PublishableMessage, PublishOutcome } from '../../src/rabbitmq/publisher.ts';
import { systemTime } from '../../src/time.ts';

const confirmed: PublishOutcome = { status: 'confirmed' };
const returned: PublishOutcome = { status: 'returned', detail: 'NO_ROUTE' };
const failed: PublishOutcome = { status: 'failed', error: new Error('refused') };
const roomy = async () => {};

async function* events(count: number): AsyncGenerator<EncodedEvent> {
  for (let n = 1; n <= count; n++) yield encodeEvent({ entityId: 'a', type: `t${n}`, sequence: n });
}

test('a stream is handed over in order, and its outcomes are counted by kind', async () => {
  const sent: string[] = [];
  const outcomes: PublishOutcome[] = [confirmed, returned, confirmed, failed];
  const seen: number[] = [];
  const publish = async ({ routingKey, properties }: PublishableMessage) => {
    sent.push(`${routingKey} ${properties.type}`);
    return outcomes[sent.length - 1]!;
  };
  const counts = await publishStream(events(4), { publish, room: roomy }, (so) => seen.push(so.confirmed + so.returned + so.failed));
  assert.deepEqual(sent, ['a t1', 'a t2', 'a t3', 'a t4']);
  assert.deepEqual(counts, { published: 4, confirmed: 2, returned: 1, failed: 1 });
  assert.deepEqual(seen, [1, 2, 3, 4]);
});

test('the stream is read on only when the outbox has room', async () => {
  let read = 0;
  async function* counted(): AsyncGenerator<EncodedEvent> {
    for await (const event of events(3)) {
      read++;
      yield event;
    }
  }
  const doors: (() => void)[] = [];
  const room = () => new Promise<void>((resolve) => doors.push(resolve));
  const publishing = publishStream(counted(), { publish: async () => confirmed, room });
  for (const expected of [1, 2, 3]) {
    while (doors.length === 0) await nextTurn();
    assert.equal(read, expected);
    doors.pop()!();
  }
  assert.deepEqual(await publishing, { published: 3, confirmed: 3, returned: 0, failed: 0 });
});

test('a stream that fails is reported when what was handed over has its outcome', async () => {
  async function* failing(): AsyncGenerator<EncodedEvent> {
    yield* events(1);
    throw new Error('the disk is gone');
  }
  let settle: (outcome: PublishOutcome) => void = () => assert.fail('nothing was published');
  let settled = false;
  const publishing = publishStream(failing(), {
    publish: () => new Promise((resolve) => (settle = resolve)),
    room: roomy,
  });
  const rejected = assert.rejects(publishing, /the disk is gone/).then(() => assert.ok(settled, 'it waits for the first one'));
  await nextTurn();
  settled = true;
  settle(confirmed);
  await rejected;
});

test('a listener that throws ends the publishing with what it threw, when what was handed over has its outcome', async () => {
  let published = 0;
  let outcomes = 0;
  const publish = async () => {
    published++;
    await nextTurn();
    return confirmed;
  };
  const listener = () => {
    outcomes++;
    throw new Error('the screen is gone');
  };
  await assert.rejects(publishStream(events(1_000), { publish, room: nextTurn }, listener), /the screen is gone/);
  assert.ok(published < 1_000, 'the stream was not read to its end');
  assert.equal(outcomes, published);
});

test('a publisher that could never publish anything is refused, with every reason and no credentials', () => {
  const options = { urls: ['amqp://me:hush@'], stream: '', format: 'cloudevents', maxOutstanding: 0 };
  assert.throws(
    () => createPublisher(options as unknown as PublisherOptions),
    (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      assert.deepEqual(
        error.problems.map((problem) => /^\w+/.exec(problem)?.[0]),
        ['urls', 'stream', 'format', 'maxOutstanding'],
      );
      return !error.message.includes('hush');
    },
  );
  const named = (given: PublisherOptions) => {
    try {
      createPublisher(given);
      return [];
    } catch (error) {
      return error instanceof ConfigError ? error.problems : [];
    }
  };
  assert.deepEqual(named({ urls: ['amqps://h'], tls: { certFile: '/nowhere' } }), [
    'tls.certFile is "/nowhere": the file cannot be read (ENOENT)',
    'tls.certFile is set, and tls.keyFile is not: a certificate and its key go together, set both',
  ]);
  assert.deepEqual(named({ urls: ['amqps://h?verify=none'] }), [
    'urls: its parameter "verify" has no effect: TLS is amqps:// with AMQP_TLS_CA_FILE and its like',
  ]);
  assert.deepEqual(named({ tls: { serverName: 'h' } }), ['tls and auth `external` are for urls that all begin with amqps://']);
  assert.deepEqual(named({ urls: ['amqps://h'], auth: 'external' }), ['auth is `external`: it needs tls.certFile and tls.keyFile']);
  for (const refused of [{ urls: [] }, { urls: ['http://h'] }, { maxOutstanding: Number.NaN }])
    assert.throws(() => createPublisher(refused), ConfigError, JSON.stringify(refused));
});

async function* lines(...texts: readonly string[]): AsyncGenerator<TextLine> {
  for (const [index, text] of texts.entries()) yield { line: index + 1, text, problem: null };
}

const line = (entityId: string) => JSON.stringify({ entity_id: entityId, type: 't' });

function runWith(input: AsyncIterable<TextLine>, options: Partial<PublishInputOptions> = {}) {
  const sent: EncodedEvent[] = [];
  const problems: string[] = [];
  const run = publishInput(input, {
    reading: {
      format: 'envelope',
      limits: defaultEventLimits,
      defaultEntityType: 'order',
      entityType: null,
      map: new Map(),
      sequences: 'number',
      unsequenced: 'reject',
      onProblem: (number, problem) => void problems.push(`${number}: ${problem}`),
    },
    reordering: { window: 0, duplicate: 0, drop: 0, seed: 1 },
    ratePerSecond: null,
    stop: new AbortController().signal,
    publisher: {
      publish: async (message) => {
        sent.push(message as EncodedEvent);
        return confirmed;
      },
      room: roomy,
    },
    time: systemTime,
    onOutcome: () => {},
    ...options,
  });
  return { run, sent, problems };
}

test('sequences are given before events are shuffled, repeated and dropped', async () => {
  const texts = Array.from({ length: 200 }, () => line('a'));
  const { run, sent } = runWith(lines(...texts), { reordering: { window: 20, duplicate: 0.3, drop: 0.2, seed: 5 } });
  const report = await run;
  const sequences = sent.map(({ event }) => event.sequence!);
  assert.equal(report.events, 200);
  assert.equal(report.published, sequences.length);
  assert.ok(new Set(sequences).size < 190 && new Set(sequences).size < sequences.length, 'dropped and repeated');
  assert.notDeepEqual(
    sequences,
    sequences.toSorted((a, b) => a - b),
  );
  // Line n has sequence n, wherever it ended up.
  assert.ok(Math.max(...sequences) > 190);
  for (const { event } of sent) assert.equal(event.id, sent.find((other) => other.event.sequence === event.sequence)!.event.id);
});

test('a line that is no event counts as failed, and the report says that not all is done', async () => {
  const { run, sent, problems } = runWith(lines(line('a'), 'oops', line('b')));
  const report = await run;
  assert.deepEqual(report, {
    events: 2,
    published: 2,
    confirmed: 2,
    returned: 0,
    failed: 1,
    badLines: 1,
    interruptedAtLine: null,
  });
  assert.equal(isComplete(report), false);
  assert.equal(sent.length, 2);
  assert.match(problems.join('\n'), /^2: malformed: /);
});

test('all confirmed is complete; something returned, or an interruption, is not', async () => {
  const whole = await runWith(lines(line('a'))).run;
  assert.equal(isComplete(whole), true);
  assert.equal(isComplete({ ...whole, returned: 1 }), false);
  assert.equal(isComplete({ ...whole, interruptedAtLine: 1 }), false);
});

test('an interruption ends the reading; what was read is published and waited for, in a hurry', async () => {
  const controller = new AbortController();
  async function* endless(): AsyncGenerator<TextLine> {
    for (let number = 1; ; number++) {
      if (number === 50) controller.abort();
      yield { line: number, text: line('a'), problem: null };
    }
  }
  const startedMs = performance.now();
  const { run, sent } = runWith(endless(), {
    stop: controller.signal,
    reordering: { window: 1_000_000, duplicate: 0, drop: 0, seed: 1 },
    ratePerSecond: 0.1,
  });
  const report = await run;
  assert.deepEqual([report.events, report.confirmed, report.interruptedAtLine], [49, 49, 49]);
  assert.deepEqual(
    sent.map(({ event }) => event.sequence!).toSorted((a, b) => a - b),
    [...Array(49).keys()].map((n) => n + 1),
  );
  assert.ok(performance.now() - startedMs < 60_000, 'it does not keep to one in ten seconds');
});

test('an input that ends because it was interrupted does not pass for a whole one', async () => {
  const controller = new AbortController();
  async function* cutOff(): AsyncGenerator<TextLine> {
    yield* lines(line('a'));
    controller.abort();
  }
  assert.equal((await runWith(cutOff(), { stop: controller.signal }).run).interruptedAtLine, 1);
});

test('progress is one line, with a bar where the size of the input is known', () => {
  const counts = { published: 3_400, confirmed: 3_380, returned: 0, failed: 0, elapsedMs: 1_000 };
  assert.equal(progressLine({ ...counts, share: 0.25 }), '[######··················]  25 %  3,400 published, 3,380 confirmed, 3,380/s');
  assert.equal(
    progressLine({ ...counts, share: null, returned: 2, failed: 1 }),
    '3,400 published, 3,380 confirmed, 2 returned, 1 failed, 3,380/s',
  );
  assert.match(progressLine({ ...counts, share: 1.2 }), /^\[#{24}\] 100 %/);
});

test('nodes that are undefined are as if they were left out', async () => {
  await createPublisher({ urls: undefined as never }).close(0);
});
