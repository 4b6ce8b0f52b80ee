import assert from 'node:assert/strict';
import test from 'node:test';
import { rejectionReasons, type RejectionReason } from '../../src/events/reasons.ts';
import { maxLabelValues } from '../../src/observability/metric-maker.ts';
import { metricTable, renderMetricsTable, type MetricRow } from '../../src/observability/metric-table.ts';
import { createMetrics, type Metrics } from '../../src/observability/metrics.ts';

/** The samples as Prometheus reads them: `name{a="1",b="2"}` with its labels sorted → value. */
async function scrape(metrics: Metrics): Promise<Map<string, number>> {
  const samples = new Map<string, number>();
  for (const line of (await metrics.render()).split('\n')) {
    const [, name, labels = '', value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const sorted = [...labels.matchAll(/[a-z_]+="[^"]*"/g)].map(String).sort();
    samples.set(`${name}{${sorted.join(',')}}`, Number(value));
  }
  return samples;
}

test("the recipe's four metrics have exactly their names, labels and buckets", () => {
  const recipe: Record<string, readonly [readonly string[], readonly number[] | undefined]> = {
    message_ordering_violations_total: [['event_type'], undefined],
    message_sequence_gap: [['entity_type'], [1, 5, 10, 50, 100, 500, 1000]],
    message_buffer_size: [['entity_type'], undefined],
    message_processing_lag_seconds: [['event_type'], [0.1, 0.5, 1, 5, 10, 30, 60]],
  };
  for (const [name, [labels, buckets]] of Object.entries(recipe)) {
    const row: MetricRow = metricTable[name as keyof typeof metricTable];
    assert.deepEqual([row.labels, row.buckets], [labels, buckets], name);
  }
});

test('every row of the table is served with its type and its help, and nothing that is not in it', async () => {
  const text = await createMetrics('orders').render();
  for (const [name, { type, help }] of Object.entries<MetricRow>(metricTable)) {
    assert.ok(text.includes(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`), name);
  }
  const served = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!);
  const unknown = served.filter((name) => !Object.hasOwn(metricTable, name) && !/^(process|nodejs)_/.test(name));
  assert.deepEqual(unknown, []);
});

test('a violation counts under its event type, and its gap under its entity type', async () => {
  const metrics = createMetrics('orders');
  metrics.violation('ItemAdded', 'order', 7);
  const samples = await scrape(metrics);
  assert.equal(samples.get('message_ordering_violations_total{event_type="ItemAdded",service="orders"}'), 1);
  assert.equal(samples.get('message_sequence_gap_bucket{entity_type="order",le="5",service="orders"}'), 0);
  assert.equal(samples.get('message_sequence_gap_bucket{entity_type="order",le="10",service="orders"}'), 1);
  assert.equal(samples.get('message_sequence_gap_sum{entity_type="order",service="orders"}'), 7);
});

test('a message that ends is counted once by outcome, and a dead letter also by reason', async () => {
  const metrics = createMetrics('s');
  metrics.shard(3).delivered(6, 2);
  metrics.shard(3).ended('applied', 3);
  metrics.shard(3).ended('duplicate', 1);
  metrics.shard(3).deadLettered('late', 2);
  const samples = await scrape(metrics);
  assert.equal(samples.get('inorder_deliveries_total{service="s",shard="3"}'), 6);
  assert.equal(samples.get('inorder_redeliveries_total{service="s",shard="3"}'), 2);
  assert.equal(samples.get('inorder_events_total{outcome="applied",service="s",shard="3"}'), 3);
  assert.equal(samples.get('inorder_events_total{outcome="duplicate",service="s",shard="3"}'), 1);
  assert.equal(samples.get('inorder_events_total{outcome="dead-lettered",service="s",shard="3"}'), 2);
  assert.equal(samples.get('inorder_events_total{outcome="skipped",service="s",shard="3"}'), 0);
  assert.equal(samples.get('inorder_dead_letters_total{reason="late",service="s",shard="3"}'), 2);
});

test('every reason of the closed list can be counted', async () => {
  const metrics = createMetrics('s');
  for (const reason of Object.keys(rejectionReasons)) metrics.shard(0).deadLettered(reason as RejectionReason, 1);
  const samples = await scrape(metrics);
  for (const reason of Object.keys(rejectionReasons)) {
    assert.equal(samples.get(`inorder_dead_letters_total{reason="${reason}",service="s",shard="0"}`), 1, reason);
  }
});

test('counters without a label of their own are there before they count', async () => {
  const metrics = createMetrics('s');
  const before = await scrape(metrics);
  assert.equal(before.get('inorder_store_unavailable_total{service="s"}'), 0);
  metrics.storeUnavailable();
  metrics.processorRetried();
  metrics.reconnected();
  metrics.committed(0.002);
  const after = await scrape(metrics);
  for (const name of [
    'inorder_store_unavailable_total',
    'inorder_processor_retries_total',
    'inorder_reconnects_total',
    'inorder_commit_seconds_count',
  ]) {
    assert.equal(after.get(`${name}{service="s"}`), 1, name);
  }
});

test('gauges say what the shards say at the scrape, and do not keep what is gone', async () => {
  const metrics = createMetrics('s');
  const held = new Map([
    ['order', 2],
    ['ticket', 1],
  ]);
  let readings = [
    { shard: 0, state: 'paused' as const, gapsOpen: 2, gapOldestSeconds: 4.5, unacked: 9, held },
    { shard: 1, state: 'paused' as const, gapsOpen: 0, gapOldestSeconds: 0, unacked: 0, held: new Map([['order', 5]]) },
  ];
  metrics.readShardsFrom(() => readings);
  const first = await scrape(metrics);
  assert.equal(first.get('message_buffer_size{entity_type="order",service="s"}'), 7);
  assert.equal(first.get('inorder_held{service="s",shard="0"}'), 3);
  assert.equal(first.get('inorder_gaps_open{service="s",shard="0"}'), 2);
  assert.equal(first.get('inorder_gap_oldest_seconds{service="s",shard="0"}'), 4.5);
  assert.equal(first.get('inorder_unacked{service="s",shard="0"}'), 9);
  assert.equal(first.get('inorder_shard_state{service="s",shard="0",state="paused"}'), 1);
  assert.equal(first.get('inorder_shard_state{service="s",shard="0",state="consuming"}'), 0);
  readings = [{ shard: 0, state: 'paused', gapsOpen: 0, gapOldestSeconds: 0, unacked: 0, held: new Map() }];
  const second = await scrape(metrics);
  assert.equal(second.get('message_buffer_size{entity_type="order",service="s"}'), 0);
  assert.equal(second.get('inorder_held{service="s",shard="0"}'), 0);
  assert.equal(second.has('inorder_held{service="s",shard="1"}'), false);
});

test('a producer whose clock is ahead makes no negative lag', async () => {
  const metrics = createMetrics('s');
  metrics.lag('T', -5);
  metrics.lag('T', 2);
  assert.equal((await scrape(metrics)).get('message_processing_lag_seconds_sum{event_type="T",service="s"}'), 2);
});

test('types invented without end make a bounded number of series', async () => {
  const metrics = createMetrics('s');
  for (let n = 0; n < maxLabelValues + 50; n++) metrics.violation(`T${n}`, 'order', 1);
  metrics.violation('T0', 'x'.repeat(10_000), 1);
  const samples = await scrape(metrics);
  const series = [...samples.keys()].filter((key) => key.startsWith('message_ordering_violations_total'));
  assert.equal(series.length, maxLabelValues + 1);
  assert.equal(samples.get('message_ordering_violations_total{event_type="other",service="s"}'), 50);
  assert.equal(samples.get('message_ordering_violations_total{event_type="T0",service="s"}'), 2);
  assert.equal(samples.get('message_sequence_gap_count{entity_type="other",service="s"}'), 1);
});

test('two sets of metrics in one process do not see each other', async () => {
  const [one, other] = [createMetrics('s'), createMetrics('s')];
  one.storeUnavailable();
  assert.equal((await scrape(other)).get('inorder_store_unavailable_total{service="s"}'), 0);
});

test('the table of metrics has one row for each metric, with all its labels', () => {
  const table = renderMetricsTable();
  assert.equal(table.trim().split('\n').length, Object.keys(metricTable).length + 2);
  assert.ok(table.includes('| `message_sequence_gap{service,entity_type}` | histogram |'));
});

test('counts of queues that nobody knows are not told', async () => {
  const ofQueues = /^inorder_(?!replies).*(queue|unrouted)/;
  const metrics = createMetrics('s');
  assert.ok(![...(await scrape(metrics)).keys()].some((name) => ofQueues.test(name)), 'before anybody asked');
  const counts = { ready: 7, unacked: null, consumers: 2 };
  metrics.readQueuesFrom(() => ({
    shards: [counts, { ...counts, unacked: 3 }],
    deadLetters: { ...counts, ready: 1 },
    unrouted: 0,
    ageSeconds: 4,
  }));
  const known = await scrape(metrics);
  assert.equal(known.get('inorder_shard_queue_messages{service="s",shard="0",state="ready"}'), 7);
  assert.equal(known.has('inorder_shard_queue_messages{service="s",shard="0",state="unacked"}'), false);
  assert.equal(known.get('inorder_shard_queue_messages{service="s",shard="1",state="unacked"}'), 3);
  assert.equal(known.get('inorder_shard_queue_consumers{service="s",shard="1"}'), 2);
  assert.equal(known.get('inorder_dead_letter_queue_messages{service="s",state="ready"}'), 1);
  assert.equal(known.get('inorder_unrouted_messages{service="s"}'), 0);
  metrics.readQueuesFrom(() => ({ shards: [], deadLetters: null, unrouted: null, ageSeconds: 61 }));
  const stale = await scrape(metrics);
  assert.deepEqual(
    [...stale].filter(([name]) => ofQueues.test(name)),
    [['inorder_queue_reading_age_seconds{service="s"}', 61]],
  );
});

test('what is configured and what runs can be compared with', async () => {
  const metrics = createMetrics('s');
  metrics.configured({ gapTimeoutSeconds: 30, prefetch: 1_000 });
  const samples = await scrape(metrics);
  assert.deepEqual([samples.get('inorder_gap_timeout_seconds{service="s"}'), samples.get('inorder_prefetch{service="s"}')], [30, 1_000]);
  assert.ok([...samples.keys()].some((name) => /^inorder_build_info\{service="s",version="\d+\.\d+\.\d+.*"\}$/.test(name)));
});
