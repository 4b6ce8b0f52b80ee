/** Headers nested as deep as one frame allows, which the client library would run out of stack over. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { ConfirmChannel } from 'amqplib';
import { commandLine } from '../support/checkout.ts';
import { useRawChannel } from '../support/rabbitmq.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { bodyOf, untilApplied } from '../support/trace.ts';
import { environment, WorkerProcess } from '../support/worker-process.ts';

const run = promisify(execFile);

test('a message whose headers nest too deep to be read is dead-lettered, and listed, and what is behind it applied', async (t) => {
  const { amqpUrl, redisUrl } = await useServices(t);
  const stream = uniqueStream('deep-headers');
  const variables = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream, SHARDS: '1', PROCESSOR: 'history' };
  const worker = await WorkerProcess.ready(t, variables);
  const raw = await useRawChannel(t, amqpUrl);
  for (const depth of [5_000, 25_000]) publishNested(raw, stream, 'deep', depth);
  // On the same channel, so behind them.
  raw.publish(stream, 'entity-0', bodyOf({ entityId: 'entity-0', sequence: 1 }), { persistent: true, contentType: 'application/json' });
  await untilApplied(redisUrl, stream, 1, 1, 30_000);
  await waitFor(async () => (await worker.metric('inorder_dead_letters_total', { reason: 'too_large' })) === 2, {
    what: 'two dead letters',
  });
  assert.equal(await worker.metric('inorder_reconnects_total'), 0);

  const { stdout } = await run(process.execPath, [...commandLine, 'dead-letters', 'list', '--json'], { env: environment(variables) });
  const letters = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    letters.map(({ reason, detail }) => [reason, detail]),
    Array(2).fill(['too_large', 'the headers nest too deep to be read']),
  );
});

/** As raw frames: the client library cannot encode what nests so deep either. */
function publishNested(channel: ConfirmChannel, exchange: string, routingKey: string, depth: number): void {
  const { ch, connection } = channel as unknown as { ch: number; connection: { stream: NodeJS.WritableStream } };
  const frame = (type: number, payload: Buffer) =>
    Buffer.concat([Buffer.of(type), uint16(ch), uint32(payload.length), payload, Buffer.of(0xce)]);
  const shortString = (text: string) => Buffer.concat([Buffer.of(Buffer.byteLength(text)), Buffer.from(text)]);
  const body = Buffer.from('{}');
  const publish = Buffer.concat([uint16(60), uint16(40), uint16(0), shortString(exchange), shortString(routingKey), Buffer.of(0)]);
  const table = Buffer.concat([shortString('x'), nestedArrays(depth)]);
  const headersOnly = 0x2000;
  const header = Buffer.concat([uint16(60), uint16(0), uint32(0), uint32(body.length), uint16(headersOnly), uint32(table.length), table]);
  connection.stream.write(Buffer.concat([frame(1, publish), frame(2, header), frame(3, body)]));
}

/** `[[[…]]]`: each level is a tag and the length of what is in it. */
function nestedArrays(depth: number): Buffer {
  const levels = Array.from({ length: depth }, (_, level) => Buffer.concat([Buffer.from('A'), uint32((depth - level - 1) * 5)]));
  return Buffer.concat(levels);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
