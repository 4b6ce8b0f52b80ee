/**
 * Real input through the real thing: the 13,710 events of a help desk, published shuffled and partly twice, come out
 * of two worker processes, one of which is killed twice, as exactly the trace of every ticket that the file has.
 * What is expected is computed here, from the text of the file alone.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkout } from '../support/checkout.ts';
import { startCommand } from '../support/command-process.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { readTraces, readyCount } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const file = process.env.HELPDESK_CSV ?? `${checkout}../shared/data/helpdesk.csv`;
const skip = existsSync(file) ? false : `there is no ${file}; set HELPDESK_CSV to the help desk log`;
const shards = 8;

/** The activities of each ticket, in the order of the file. */
function tracesOf(text: string): Map<string, string[]> {
  const traces = new Map<string, string[]>();
  for (const row of text.trim().split('\n').slice(1)) {
    const [ticket, activity] = row.split(',') as [string, string];
    traces.set(ticket, [...(traces.get(ticket) ?? []), activity]);
  }
  return traces;
}

test('every ticket of the help desk comes out with its trace, though a worker is killed twice', { skip }, async (t) => {
  const { amqpUrl, redisUrl } = await useServices(t);
  const stream = uniqueStream('helpdesk');
  const broker = { AMQP_URL: amqpUrl, STREAM: stream };
  const variables = {
    ...broker,
    REDIS_URL: redisUrl,
    SHARDS: String(shards),
    PROCESSOR: 'history',
    ENTITY_TYPE: 'ticket',
    GAP_TIMEOUT_MS: '120000',
  };
  // Both know shards 3 and 4: there one is the standby of the other.
  const mortal = { ...variables, WORKER_SHARDS: '0-4' };
  let worker = await WorkerProcess.ready(t, mortal);
  const survivor = await WorkerProcess.ready(t, { ...variables, WORKER_SHARDS: '3-7' });

  const map = 'entity_id=CaseID,type=ActivityID,timestamp=CompleteTimestamp';
  const disarray = ['--shuffle', '500', '--duplicate', '0.1', '--seed', '1', '--rate', '2500'];
  const publishing = await startCommand(['publish', '--format', 'csv', '--map', map, ...disarray, '--json'], broker);
  t.after(() => publishing.process.kill('SIGKILL'));
  const text = readFileSync(file, 'utf8');
  /** Publishes up to this share of the file; what comes after it cannot have been applied. */
  let given = 0;
  const publishUpTo = (share: number) => {
    publishing.process.stdin.write(text.slice(given, Math.round(text.length * share)));
    given = Math.round(text.length * share);
  };
  const expected = tracesOf(text);
  const total = [...expected.values()].reduce((sum, types) => sum + types.length, 0);

  const applied = async () => [...(await readTraces(redisUrl, stream)).values()].reduce((sum, { version }) => sum + version, 0);
  const appliedMoreThan = async (limit: number) => {
    const count = await applied();
    return count > limit ? count : null;
  };
  for (const [share, upTo] of [
    [0.15, 0.4],
    [0.5, 0.8],
  ] as const) {
    publishUpTo(upTo);
    await waitFor(async () => (await worker.metric('inorder_events_total', { outcome: 'applied' })) > 0, {
      what: 'the worker at work',
      timeoutMs: 120_000,
    });
    const before = await waitFor(() => appliedMoreThan(total * share), {
      what: `${share * 100} % applied`,
      timeoutMs: 120_000,
    });
    assert.ok(before < total, 'it is killed with work before it');
    await worker.kill();
    worker = await WorkerProcess.ready(t, mortal);
  }
  publishUpTo(1);
  publishing.process.stdin.end();

  const { code, stdout, stderr } = await publishing.ended;
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout);
  assert.equal(report.events, total);
  assert.ok(report.published > total * 1.08 && report.published < total * 1.12, stdout);
  assert.equal(report.confirmed, report.published);
  assert.equal(report.returned + report.failed, 0);

  await waitFor(async () => (await applied()) === total, { what: 'every event applied', timeoutMs: 120_000 });
  const traces = await readTraces(redisUrl, stream);
  assert.deepEqual(new Map([...traces].map(([ticket, { types }]) => [ticket, types])), expected);
  assert.deepEqual(
    [...traces].filter(([, { parked }]) => parked),
    [],
  );
  const queues = [...Array(shards).keys()].map((shard) => `${stream}.shard.00${shard}`);
  for (const queue of [...queues, `${stream}.dead-letters`, `${stream}.unrouted`]) {
    await waitFor(async () => (await readyCount(amqpUrl, queue)) === 0, { what: `${queue} empty` });
  }
  for (const process of [worker, survivor]) {
    process.signal('SIGTERM');
    assert.deepEqual(await process.exited, { code: 0, signal: null });
  }
});
