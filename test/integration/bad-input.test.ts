/**
 * Every line of the corpus through a real worker: what is bad is found in the dead-letter queue under its
 * named reason with its bytes untouched, what is hostile but good is applied with its data byte for byte, and so are the good events
 * published around each of them.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import amqp from 'amqplib';
import type { Snapshot } from '../../src/ordering/entity.ts';
import type { Store } from '../../src/stores/store.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { commandLine } from '../support/checkout.ts';
import { badForTheSequencer, badLines, type CorpusMessage, goodLines } from '../support/corpus.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { bodyOf } from '../support/trace.ts';
import { environment, WorkerProcess } from '../support/worker-process.ts';

const allBad = [...badLines, ...badForTheSequencer];
const run = promisify(execFile);

/** Through the management API: the client library cannot encode a header block of this size, others can. */
async function publishLargeHeaders(
  managementUrl: string,
  exchange: string,
  { body, routingKey, contentType, headers }: CorpusMessage,
): Promise<void> {
  const { origin, username, password } = new URL(managementUrl);
  const response = await fetch(`${origin}/api/exchanges/%2F/${encodeURIComponent(exchange)}/publish`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` },
    body: JSON.stringify({
      routing_key: routingKey,
      payload: body.toString('base64'),
      payload_encoding: 'base64',
      properties: { delivery_mode: 2, content_type: contentType, headers },
    }),
  });
  assert.deepEqual(await response.json(), { routed: true });
}

/** The dead letters as an operator sees them, oldest first. */
async function listed(variables: Readonly<Record<string, string>>): Promise<{ readonly reason: string; readonly detail: string }[]> {
  const { stdout } = await run(process.execPath, [...commandLine, 'dead-letters', 'list', '--json'], {
    env: environment(variables),
    maxBuffer: 2 ** 26,
  });
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

test('bad input is dead-lettered under its reason, byte for byte, and good events around it are applied', async (t) => {
  const { amqpUrl, redisUrl, managementUrl } = await useServices(t);
  const stream = uniqueStream('bad-input');
  const variables = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream, SHARDS: '1', PROCESSOR: 'history' };
  const worker = await WorkerProcess.ready(t, variables);
  const connection = await amqp.connect(amqpUrl);
  t.after(() => connection.close());
  const channel = await connection.createConfirmChannel();
  const publish = ({ body, routingKey, ...properties }: CorpusMessage, line: number) =>
    channel.publish(stream, routingKey, body, { persistent: true, ...properties, headers: { ...properties.headers, line } });
  const large = allBad.filter(({ message }) => JSON.stringify(message.headers ?? {}).length > 60_000);
  assert.ok(managementUrl !== null && large.length > 0);
  allBad.forEach(({ message }, line) => {
    const around = { entityId: 'bystander', sequence: line + 1 };
    publish({ body: bodyOf(around), routingKey: around.entityId, contentType: 'application/json' }, -1);
    if (!large.some((one) => one.message === message)) publish(message, line);
  });
  for (const { message } of large) {
    const line = allBad.findIndex((one) => one.message === message);
    await publishLargeHeaders(managementUrl, stream, { ...message, headers: { ...message.headers, line } });
  }
  goodLines.forEach(({ message }) => publish(message, -1));
  await channel.waitForConfirms();
  await waitFor(async () => (await worker.metric('inorder_dead_letters_total')) === allBad.length, {
    what: `${allBad.length} dead letters`,
    timeoutMs: 60_000,
  });

  const letters = await listed(variables);
  const delivered: amqp.ConsumeMessage[] = [];
  await channel.consume(`${stream}.dead-letters`, (message) => message !== null && delivered.push(message));
  await waitFor(() => delivered.length === allBad.length, { what: 'every dead letter read' });
  assert.equal(letters.length, allBad.length);
  delivered.forEach(({ content, properties }, place) => {
    const line = allBad[properties.headers?.line as number];
    assert.ok(line);
    assert.ok(content.equals(line.message.body), `${line.name}: its bytes are untouched`);
    assert.equal(letters[place]?.reason, line.reason, `${line.name}: ${letters[place]?.detail}`);
  });

  const store = createRedisStore({ url: redisUrl, stream, idempotencyTtlSeconds: 3_600 });
  t.after(() => store.close());
  await untilApplied(store, 'trace', 'bystander', allBad.length);
  for (const { name, entityId, dataJson } of goodLines) {
    const { state } = await untilApplied(store, 'thing', entityId, 1);
    assert.ok(state?.endsWith(`"data":${dataJson}}`), `${name}: ${state} keeps the bytes of its data`);
  }
  assert.equal((await worker.get('/readyz')).status, 200);
});

async function untilApplied(store: Store, entityType: string, entityId: string, version: number): Promise<Snapshot> {
  return waitFor(
    async () => {
      const [loaded] = await store.load([{ entityType, entityId }]);
      return loaded?.status === 'ok' && loaded.snapshot.version === version ? loaded.snapshot : null;
    },
    { what: `${JSON.stringify(entityId)} at version ${version}`, timeoutMs: 30_000 },
  );
}
