/**
 * What one worker with 8 shards takes in memory. `npx tsx test/bench/memory.ts entities 1000000` applies one event each of so
 * many entities; `… large 400 [PROCESSOR]` begins with a backlog of so many messages of a megabyte. It says how much is
 * resident as it goes, and the most. Services come from AMQP_URL and REDIS_URL, or are brought up; WORKER_NODE_OPTIONS
 * and MEMORY_BUDGET_MIB are the worker's.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import amqp from 'amqplib';
import { freePort } from '../../deploy/local/free-port.ts';
import { startServices } from '../../deploy/local/services.ts';
import { waitUntil } from '../../deploy/local/wait-until.ts';
import { commandLine } from '../support/checkout.ts';
import { uniqueStream } from '../support/services.ts';
import { bodyOf, type TraceEvent } from '../support/trace.ts';

const [kind = 'entities', countText = '100000', processor = 'history'] = process.argv.slice(2);
const count = Number(countText);
const largeBytes = 1_000_000;
const largeEntities = 40;
const reportEvery = 50_000;
const patienceMs = 3_600_000;

const { amqpUrl, redisUrl } = await startServices();
const stream = uniqueStream('memory');
const url = `http://127.0.0.1:${await freePort()}`;
const { PATH, HOME, MEMORY_BUDGET_MIB, WORKER_NODE_OPTIONS: NODE_OPTIONS } = process.env;
const env = {
  PATH,
  HOME,
  MEMORY_BUDGET_MIB,
  NODE_OPTIONS,
  AMQP_URL: amqpUrl,
  REDIS_URL: redisUrl,
  STREAM: stream,
  PROCESSOR: processor,
  HTTP_PORT: new URL(url).port,
  LOG_LEVEL: 'error',
};
let mostMiB = 0;

async function startWorker(): Promise<ChildProcess> {
  const worker = spawn(process.execPath, [...commandLine, 'worker'], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  process.on('exit', () => worker.kill('SIGKILL'));
  const isReady = () =>
    ask('/readyz').then(
      ({ ok }) => ok,
      () => false,
    );
  await waitUntil(isReady, { what: 'the worker', timeoutMs: patienceMs });
  return worker;
}

async function endWorker(worker: ChildProcess): Promise<void> {
  worker.kill('SIGTERM');
  await once(worker, 'exit');
}

function ask(path: string): Promise<Response> {
  return fetch(url + path, { headers: { connection: 'close' } });
}

async function sum(metric: string): Promise<number> {
  const text = await (await ask('/metrics')).text();
  return [...text.matchAll(new RegExp(`^${metric}\\{.*\\} (\\d+)$`, 'gm'))].reduce((total, [, value]) => total + Number(value), 0);
}

async function residentMiB({ pid }: ChildProcess): Promise<number> {
  const [, kiB] = /VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')) ?? [];
  const nowMiB = Number(kiB ?? 0) / 1_024;
  mostMiB = Math.max(mostMiB, nowMiB);
  return nowMiB;
}

async function report(worker: ChildProcess): Promise<number> {
  const ended = await sum('inorder_events_total');
  const givenBack = await sum('inorder_deliveries_given_back_total');
  process.stdout.write(
    `${ended} ended, ${Math.round(await residentMiB(worker))} MiB resident, ${Math.round(mostMiB)} at most, ${givenBack} given back\n`,
  );
  return ended;
}

function eventAt(at: number): TraceEvent {
  if (kind === 'entities') return { entityId: `customer-${at}`, sequence: 1 };
  return { entityId: `large-${at % largeEntities}`, sequence: Math.floor(at / largeEntities) + 1 };
}

async function publishAll(channel: amqp.ConfirmChannel, onPart: () => Promise<unknown>): Promise<void> {
  const data = 'x'.repeat(kind === 'entities' ? 100 : largeBytes);
  for (let at = 0; at < count; at++) {
    const event = eventAt(at);
    channel.publish(stream, event.entityId, bodyOf(event, data), { persistent: true, messageId: `${event.entityId}/${event.sequence}` });
    if (at % (kind === 'entities' ? 1_000 : 20) === 0) await channel.waitForConfirms();
    if (at % reportEvery === reportEvery - 1) await onPart();
  }
  await channel.waitForConfirms();
}

let worker = await startWorker();
const connection = await amqp.connect(amqpUrl);
const channel = await connection.createConfirmChannel();
const timer = setInterval(() => void residentMiB(worker), 100);
if (kind === 'entities') {
  await publishAll(channel, () => report(worker));
} else {
  // All shards begin with a full window.
  await endWorker(worker);
  await publishAll(channel, async () => undefined);
  worker = await startWorker();
}
await waitUntil(async () => (await report(worker)) >= count, { what: 'all events', timeoutMs: patienceMs, intervalMs: 2_000 });
clearInterval(timer);
await endWorker(worker);
await connection.close();
process.exit(0);
