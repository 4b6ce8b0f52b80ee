/** One trace tells the way of an event through a real broker: published, held, dead-lettered, replayed, applied. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type TestContext } from 'node:test';
import type amqp from 'amqplib';
import { moduleUrl } from '../support/checkout.ts';
import { runCommand } from '../support/command-process.ts';
import { useServices, waitFor } from '../support/services.ts';
import { readSpans, type WrittenSpan } from '../support/span-file.ts';
import { StreamRun } from '../support/stream-run.ts';

const producer = 3;
const consumer = 4;

async function useTracedStream(t: TestContext) {
  const services = await useServices(t);
  const folder = mkdtempSync(join(tmpdir(), 'inorder-spans-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const spanFile = join(folder, 'spans');
  const registration = moduleUrl('test/support/span-file.ts');
  const loaders = registration.pathname.endsWith('.ts') ? ['--import tsx'] : [];
  const variables = {
    NODE_OPTIONS: [...loaders, `--import ${registration}`].join(' '),
    SPAN_FILE: spanFile,
    PROCESSOR: fileURLToPath(moduleUrl('test/support/traced-processor.ts')),
    ENTITY_TYPE: 'trace',
    GAP_TIMEOUT_MS: '3000',
  };
  const run = new StreamRun(t, 'traced', { ...services, variables });
  const command = async (...words: readonly string[]) => {
    const done = await runCommand(words, { ...variables, AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream });
    assert.equal(done.code, 0, done.stderr);
  };
  const publish = async (entityId: string, ...sequences: readonly number[]) => {
    const lines = sequences.map((sequence) =>
      JSON.stringify({ entity_id: entityId, sequence, type: `e${sequence}`, timestamp: new Date().toISOString(), data: {} }),
    );
    const done = await runCommand(['publish', '-'], { ...variables, AMQP_URL: run.amqpUrl, STREAM: run.stream }, `${lines.join('\n')}\n`);
    assert.equal(done.code, 0, done.stderr);
  };
  const spansOf = (entityId: string, kind: number) =>
    readSpans(spanFile).filter((span) => span.kind === kind && span.attributes['messaging.rabbitmq.destination.routing_key'] === entityId);
  return { run, command, publish, spansOf, spans: () => readSpans(spanFile) };
}

const outcome = ({ attributes }: WrittenSpan) => [attributes['inorder.sequence'], attributes['inorder.outcome']];

test('a span tells each publishing and each delivery, and what a processor does is part of it', async (t) => {
  const { run, publish, spansOf, spans } = await useTracedStream(t);
  const worker = await run.worker();
  await publish('held', 1, 3, 2);
  await waitFor(() => spansOf('held', consumer).length === 3, { what: 'three deliveries settled', timeoutMs: 30_000 });

  const [first, third, second] = spansOf('held', producer) as [WrittenSpan, WrittenSpan, WrittenSpan];
  assert.equal(first.name, `publish ${run.stream}`);
  const { 'messaging.message.id': id, 'messaging.message.body.size': size, ...attributes } = first.attributes;
  assert.ok(typeof id === 'string' && Number(size) > 0);
  assert.deepEqual(attributes, {
    'messaging.system': 'rabbitmq',
    'messaging.operation.type': 'send',
    'messaging.operation.name': 'publish',
    'messaging.destination.name': run.stream,
    'messaging.rabbitmq.destination.routing_key': 'held',
  });

  const deliveries = spansOf('held', consumer);
  assert.deepEqual(deliveries.map(outcome).sort(), [
    [1, 'applied'],
    [2, 'applied'],
    [3, 'applied'],
  ]);
  const of = (sequence: number) => deliveries.find(({ attributes }) => attributes['inorder.sequence'] === sequence)!;
  for (const [sequence, published] of [
    [1, first],
    [2, second],
    [3, third],
  ] as const) {
    assert.deepEqual([of(sequence).traceId, of(sequence).parentSpanId], [published.traceId, published.spanId], `${sequence}`);
    const work = spans().filter(({ name, parentSpanId }) => name === `work on e${sequence}` && parentSpanId === of(sequence).spanId);
    assert.equal(work.length, sequence === 2 ? 2 : 1, 'the processor works within the span, at every attempt');
  }
  assert.deepEqual(of(3).events, [{ name: 'inorder.early', attributes: { 'inorder.expected_sequence': 2 } }]);
  assert.deepEqual([of(1).links, of(2).links, of(3).links], [[], [], [of(2).spanId]]);
  assert.deepEqual(of(2).events, [
    { name: 'inorder.retry', attributes: { 'inorder.attempt': 1, 'exception.message': 'Error: not at once' } },
  ]);

  const retry = worker.output.split('\n').find((line) => line.includes('trying again'));
  assert.equal(JSON.parse(retry!).trace_id, second.traceId);
  const { body } = await worker.get('/metrics');
  assert.match(body, new RegExp(`message_sequence_gap_bucket\\{.*\\} 1 # \\{trace_id="${third.traceId}"\\} 1 `));
  assert.match(body, /message_processing_lag_seconds_bucket\{.*\} \d+ # \{trace_id="[0-9a-f]{32}"\}/);
  assert.match(body, /# EOF\n$/);
});

test('a dead letter and its replay are in the trace of the event', async (t) => {
  const { run, command, publish, spansOf } = await useTracedStream(t);
  const worker = await run.worker();
  await publish('late', 2);
  await waitFor(async () => (await run.ready(run.deadLetters)) === 1, { what: 'the dead letter', timeoutMs: 30_000 });
  await publish('late', 1);
  await waitFor(async () => (await run.applied()) === 1, { what: 'the missing event', timeoutMs: 30_000 });
  await command('dead-letters', 'replay', '--ready', '--yes');
  await waitFor(() => spansOf('late', consumer).length === 3, { what: 'three deliveries settled', timeoutMs: 30_000 });

  const [published, missing, replayed] = spansOf('late', producer) as [WrittenSpan, WrittenSpan, WrittenSpan];
  assert.deepEqual(replayed.links, [published.spanId]);
  const deliveries = spansOf('late', consumer);
  assert.deepEqual(deliveries.map(outcome), [
    [2, 'dead-lettered'],
    [1, 'applied'],
    [2, 'applied'],
  ]);
  assert.deepEqual(
    deliveries.map(({ traceId }) => traceId),
    [published.traceId, missing.traceId, published.traceId],
  );
  const [dead] = deliveries as [WrittenSpan];
  assert.equal(dead.attributes['error.type'], 'gap_timeout');
  const line = worker.output.split('\n').find((text) => text.includes('"message":"dead-lettered"'));
  assert.deepEqual([JSON.parse(line!).trace_id, JSON.parse(line!).detail], [published.traceId, dead.error]);
});

test('without a tracer nothing is added to messages, and the log still names the trace that a message bears', async (t) => {
  const run = new StreamRun(t, 'untraced', await useServices(t));
  const worker = await run.worker();
  const channel = await run.channel();
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  channel.publish(run.stream, 'x', Buffer.from('not json'), { headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } });
  await waitFor(async () => (await run.ready(run.deadLetters)) === 1, { what: 'the dead letter', timeoutMs: 30_000 });
  const line = worker.output.split('\n').find((text) => text.includes('"message":"dead-lettered"'));
  assert.equal(JSON.parse(line!).trace_id, traceId);
  assert.ok(!(await worker.get('/metrics')).body.includes('# EOF'));
  await run.end(worker);
  await runCommand(
    ['publish', '-'],
    { AMQP_URL: run.amqpUrl, STREAM: run.stream },
    '{"entity_id":"y","sequence":7,"type":"e7","data":{}}\n',
  );
  const found = new Promise<amqp.ConsumeMessage | null>((resolve) => {
    for (const shard of [0, 1]) void channel.consume(run.queue(shard), resolve, { noAck: true });
  });
  assert.deepEqual((await found)?.properties.headers, {});
});
