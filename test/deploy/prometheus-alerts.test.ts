/**
 * The alerts for real: a Prometheus scrapes worker processes, something happens to them, and the alert goes pending and
 * then firing. Its rules are the ones that ship, with every duration a sixtieth (prometheus-rules.test.ts shows that
 * nothing else differs).
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { readRulesText, shortenedRules } from '../support/alert-rules.ts';
import { missingPrometheus, PrometheusNode } from '../support/prometheus-node.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import type { TraceEvent } from '../support/trace.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

const faster = 60;
const scrapeMs = 15_000 / faster;

interface Watched {
  readonly run: StreamRun;
  readonly workers: readonly WorkerProcess[];
  readonly prometheus: PrometheusNode;
}

/** Workers that Prometheus has scraped, with nothing pending; null when there is no Prometheus. */
async function useWatchedWorkers(t: TestContext, count = 1, variables: Readonly<Record<string, string>> = {}): Promise<Watched | null> {
  const missing = await missingPrometheus();
  if (missing !== null) {
    t.skip(missing);
    return null;
  }
  const run = new StreamRun(t, 'alerts', { ...(await useServices(t)), variables });
  const workers = await Promise.all(Array.from({ length: count }, () => run.worker()));
  const prometheus = await PrometheusNode.start({
    workers: workers.map(({ httpUrl }) => httpUrl.replace('http://', '')),
    rules: shortenedRules(readRulesText(), faster),
    intervalMs: scrapeMs,
  });
  t.after(() => prometheus.stop());
  await waitFor(async () => (await prometheus.query('up == 1')).length === count, { what: 'a first scrape', timeoutMs: 30_000 });
  // Before its first scrape Prometheus knows of no worker, and may have said so.
  await waitFor(async () => (await prometheus.query('ALERTS')).length === 0, { what: 'no alert', timeoutMs: 30_000 });
  return { run, workers, prometheus };
}

function wide(prefix: string, entities: number, sequence: number): TraceEvent[] {
  return Array.from({ length: entities }, (_, entity) => ({ entityId: `${prefix}-${entity}`, sequence }));
}

async function pendingThenFiring({ prometheus }: Watched, alert: string): Promise<void> {
  await prometheus.untilAlert(alert, 'pending');
  await prometheus.untilAlert(alert, 'firing');
}

async function firing(prometheus: PrometheusNode): Promise<readonly string[]> {
  const now = await prometheus.query('ALERTS{alertstate="firing"}');
  return [...new Set(now.map(({ metric }) => metric['alertname'] ?? ''))].sort();
}

test('an event that waits for its predecessor raises GapOpenTooLong, and the predecessor ends it', async (t) => {
  const watched = await useWatchedWorkers(t, 1, { GAP_TIMEOUT_MS: '30000' });
  if (watched === null) return;
  await watched.run.publish([{ entityId: 'early', sequence: 2 }]);
  await pendingThenFiring(watched, 'GapOpenTooLong');
  await watched.run.publish([{ entityId: 'early', sequence: 1 }]);
  await waitFor(async () => !(await firing(watched.prometheus)).includes('GapOpenTooLong'), {
    what: 'the alert to end',
    timeoutMs: 30_000,
  });
  await watched.run.assertBalanced(1, 2);
});

test('large gaps that go on raise LargeSequenceGaps', async (t) => {
  const watched = await useWatchedWorkers(t);
  if (watched === null) return;
  let round = 0;
  const publishing = async (state: 'pending' | 'firing') => {
    await watched.run.publish(wide(`round-${round++}`, 3, 600));
    return (await watched.prometheus.query(`last_over_time(ALERTS{alertname="LargeSequenceGaps",alertstate="${state}"}[1h])`)).length > 0;
  };
  await waitFor(() => publishing('pending'), { what: 'LargeSequenceGaps pending', timeoutMs: 40_000, intervalMs: scrapeMs });
  await waitFor(() => publishing('firing'), { what: 'LargeSequenceGaps firing', timeoutMs: 40_000, intervalMs: scrapeMs });
});

test('a dead letter raises DeadLettersArriving', async (t) => {
  const watched = await useWatchedWorkers(t);
  if (watched === null) return;
  const channel = await watched.run.channel();
  channel.publish(watched.run.stream, 'broken', Buffer.from('{'), { persistent: true, contentType: 'application/json' });
  await channel.waitForConfirms();
  await pendingThenFiring(watched, 'DeadLettersArriving');
  const [alert] = await watched.prometheus.query('last_over_time(ALERTS{alertname="DeadLettersArriving",alertstate="firing"}[1h])');
  assert.equal(alert?.metric['reason'], 'malformed');
});

test('a worker that is killed raises WorkerDown, for itself alone', async (t) => {
  const watched = await useWatchedWorkers(t, 2);
  if (watched === null) return;
  const [killed] = watched.workers as [WorkerProcess];
  await watched.run.kill(killed);
  await pendingThenFiring(watched, 'WorkerDown');
  const alerts = await watched.prometheus.query('ALERTS{alertname="WorkerDown"}');
  assert.deepEqual(
    alerts.map(({ metric }) => metric['instance']),
    [killed.httpUrl.replace('http://', '')],
  );
});

test('a buffer that fills raises BufferBacklogGrowing', async (t) => {
  const watched = await useWatchedWorkers(t, 1, { PREFETCH: '5000' });
  if (watched === null) return;
  const { run, prometheus } = watched;
  await run.publish(wide('first', 1, 2));
  await waitFor(async () => (await prometheus.query('inorder:buffer_size:sum == 1')).length === 1, {
    what: 'the first held event',
    timeoutMs: 20_000,
  });
  await run.publish(wide('later', 2_000, 2));
  await pendingThenFiring(watched, 'BufferBacklogGrowing');
});
