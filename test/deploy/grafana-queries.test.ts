/**
 * Every query of the dashboard that ships, asked of a real Prometheus that scrapes a real broker and a worker with a tracer,
 * under traffic in which something of everything goes wrong: each gives data.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import test from 'node:test';
import { freePort, loopback } from '../../deploy/local/free-port.ts';
import { publishTraffic } from '../../deploy/demo/publishing.ts';
import { checkout, moduleUrl } from '../support/checkout.ts';
import { missingPrometheus, PrometheusNode } from '../support/prometheus-node.ts';
import { KeptLog } from '../support/rabbitmq.ts';
import { useRabbitNode, useRedisNode, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';

interface Query {
  readonly panel: string;
  readonly expr: string;
}

/** With the dashboard's variables as Grafana fills them in when everything is chosen. */
function queries(rateInterval: string): readonly Query[] {
  const { panels } = JSON.parse(readFileSync(`${checkout}deploy/grafana/dashboards/inorder.json`, 'utf8')) as {
    panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }[];
  };
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      panel: title,
      expr: expr.replaceAll('$__rate_interval', rateInterval).replaceAll(/\$(service|shard)\b/g, '.*'),
    })),
  );
}

test('every query of the dashboard gives data, and exemplars lead to traces', async (t) => {
  const missing = await missingPrometheus();
  if (missing !== null) return t.skip(missing);
  const metricsPort = await freePort();
  const configLines = [`prometheus.tcp.ip = ${loopback}`, `prometheus.tcp.port = ${metricsPort}`];
  const [rabbit, redis] = await Promise.all([useRabbitNode(t, { plugins: ['rabbitmq_prometheus'], configLines }), useRedisNode(t)]);
  const folder = mkdtempSync(join(tmpdir(), 'inorder-spans-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const registration = moduleUrl('test/support/span-file.ts');
  const loaders = registration.pathname.endsWith('.ts') ? ['--import tsx'] : [];
  const traced = { NODE_OPTIONS: [...loaders, `--import ${registration}`].join(' '), SPAN_FILE: join(folder, 'spans') };
  const variables = { PROCESSOR: 'order', GAP_TIMEOUT_MS: '2000', MANAGEMENT_URL: rabbit.managementUrl, ...traced };
  const run = new StreamRun(t, 'panels', { amqpUrl: rabbit.amqpUrl, redisUrl: redis.redisUrl, variables });
  const worker = await run.worker();
  const prometheus = await PrometheusNode.start({
    workers: [worker.httpUrl.replace('http://', '')],
    broker: `${loopback}:${metricsPort}`,
    intervalMs: 500,
  });
  t.after(() => prometheus.stop());

  const end = new AbortController();
  const traffic = publishTraffic({
    urls: [run.amqpUrl],
    stream: run.stream,
    orders: 30,
    seed: 1,
    ratePerSecond: 200,
    log: new KeptLog(),
    signal: end.signal,
  });
  t.after(async () => {
    end.abort();
    await traffic;
  });
  const asked = queries('30s');
  assert.ok(asked.length > 40);
  // What is held and what was dead-lettered comes and goes; each query has to give data at one time or another.
  const silent = new Map(asked.map((query) => [query.expr, query.panel]));
  await waitFor(
    async () => {
      for (const expr of [...silent.keys()]) if ((await prometheus.query(expr)).length > 0) silent.delete(expr);
      return silent.size === 0;
    },
    { what: 'data for every query', timeoutMs: 60_000 },
  ).catch((error: unknown) => {
    throw new Error(`without data: ${[...silent].map(([expr, panel]) => `${panel}: ${expr}`).join('\n')}`, { cause: error });
  });
  await waitFor(
    async () => (await prometheus.exemplarTraces('message_processing_lag_seconds_bucket')).some((id) => /^[0-9a-f]{32}$/.test(id)),
    { what: 'an exemplar' },
  );
});
