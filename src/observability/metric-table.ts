/**
 * Every metric of Inorder: one row makes the metric and its row in deploy/prometheus/README.md. The first four keep the names
 * and buckets of the recipe; dashboards and alerts are built on them.
 */

export interface MetricRow {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** After `service`, which every one has. */
  readonly labels: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
}

export const metricTable = {
  message_ordering_violations_total: {
    type: 'counter',
    help: 'Events that came before their predecessor.',
    labels: ['event_type'],
  },
  message_sequence_gap: {
    type: 'histogram',
    help: 'Missing sequences before an event that came too early.',
    labels: ['entity_type'],
    buckets: [1, 5, 10, 50, 100, 500, 1000],
  },
  message_buffer_size: {
    type: 'gauge',
    help: 'Events held until their predecessor arrives.',
    labels: ['entity_type'],
  },
  message_processing_lag_seconds: {
    type: 'histogram',
    help: 'From the time of an event, by its producer, to its commit.',
    labels: ['event_type'],
    buckets: [0.1, 0.5, 1, 5, 10, 30, 60],
  },
  inorder_events_total: {
    type: 'counter',
    help: 'Messages by how they ended: applied, duplicate, dead-lettered or skipped.',
    labels: ['shard', 'outcome'],
  },
  inorder_dead_letters_total: {
    type: 'counter',
    help: 'Messages that were dead-lettered, by reason.',
    labels: ['shard', 'reason'],
  },
  inorder_deliveries_total: {
    type: 'counter',
    help: 'Arrivals from the broker, redeliveries included.',
    labels: ['shard'],
  },
  inorder_repeated_ids_total: {
    type: 'counter',
    help: 'Events whose id was applied under another sequence, with the same content: the sequence was passed, nothing was applied. They count as duplicates, too.',
    labels: ['shard'],
  },
  inorder_deliveries_given_back_total: {
    type: 'counter',
    help: 'Deliveries for which MEMORY_BUDGET_MIB had no room: the broker keeps them and sends them again.',
    labels: ['shard'],
  },
  inorder_held: {
    type: 'gauge',
    help: 'Events held in a shard.',
    labels: ['shard'],
  },
  inorder_gaps_open: {
    type: 'gauge',
    help: 'Entities of a shard that wait for a missing event.',
    labels: ['shard'],
  },
  inorder_gap_oldest_seconds: {
    type: 'gauge',
    help: 'How long the longest of the open gaps has waited; 0 when none is open.',
    labels: ['shard'],
  },
  inorder_gap_timeout_seconds: {
    type: 'gauge',
    help: 'GAP_TIMEOUT_MS.',
    labels: [],
  },
  inorder_prefetch: {
    type: 'gauge',
    help: 'PREFETCH.',
    labels: [],
  },
  inorder_unacked: {
    type: 'gauge',
    help: 'Deliveries of a shard that this worker has and has not settled.',
    labels: ['shard'],
  },
  inorder_redeliveries_total: {
    type: 'counter',
    help: 'Arrivals that the broker had sent before.',
    labels: ['shard'],
  },
  inorder_entities_parked_total: {
    type: 'counter',
    help: 'Entities that were parked.',
    labels: ['shard'],
  },
  inorder_entities_unparked_total: {
    type: 'counter',
    help: 'Entities whose parking has ended.',
    labels: ['shard'],
  },
  inorder_fenced_total: {
    type: 'counter',
    help: 'Commits, parks and claims that came too late, and changed nothing: another owner has taken over, or an operator has changed the entity.',
    labels: ['shard'],
  },
  inorder_shard_halts_total: {
    type: 'counter',
    help: 'Halts of shards: store_went_backwards (until an operator ends it) or bug (the process ends).',
    labels: ['shard', 'cause'],
  },
  inorder_shard_queue_messages: {
    type: 'gauge',
    help: 'Messages in the queue of a shard: ready and, where MANAGEMENT_URL is set, unacked. The same from every worker: take the maximum.',
    labels: ['shard', 'state'],
  },
  inorder_shard_queue_consumers: {
    type: 'gauge',
    help: 'Consumers of the queue of a shard that are given messages: 0 where nobody is; of quorum queues standbys are not counted.',
    labels: ['shard'],
  },
  inorder_dead_letter_queue_messages: {
    type: 'gauge',
    help: 'Messages in the dead-letter queue: ready and, where MANAGEMENT_URL is set, unacked.',
    labels: ['state'],
  },
  inorder_unrouted_messages: {
    type: 'gauge',
    help: 'Messages that found no shard.',
    labels: [],
  },
  inorder_queue_reading_age_seconds: {
    type: 'gauge',
    help: 'Since the broker was last asked for the counts of queues, which happens every 15 seconds.',
    labels: [],
  },
  inorder_build_info: {
    type: 'gauge',
    help: '1, with the version that runs.',
    labels: ['version'],
  },
  inorder_shard_state: {
    type: 'gauge',
    help: '1 for the state that a shard is in, 0 for the others.',
    labels: ['shard', 'state'],
  },
  inorder_store_unavailable_total: {
    type: 'counter',
    help: 'Calls to the store of which the outcome is unknown or that it could not serve.',
    labels: [],
  },
  inorder_processor_attempts_total: {
    type: 'counter',
    help: 'Attempts of handlers at events, the first ones included.',
    labels: [],
  },
  inorder_processor_retries_total: {
    type: 'counter',
    help: 'Attempts of a processor after a failed one.',
    labels: [],
  },
  inorder_auto_replays_total: {
    type: 'counter',
    help: 'Readings of the dead-letter queue for AUTO_REPLAY: replayed, nothing (to replay) or put_off.',
    labels: ['outcome'],
  },
  inorder_auto_replayed_letters_total: {
    type: 'counter',
    help: 'Dead letters that AUTO_REPLAY published again.',
    labels: [],
  },
  inorder_replies_dropped_total: {
    type: 'counter',
    help: 'Results of handlers that did not reach the `replyTo` of their message, by cause: not_allowed (REPLY_QUEUES), no_queue, no_permission, no_connection or backlog.',
    labels: ['cause'],
  },
  inorder_gap_repairs_total: {
    type: 'counter',
    help: 'Questions to the source of GAP_REPAIR: repaired, missing (it has not got them either) or failed.',
    labels: ['outcome'],
  },
  inorder_repaired_events_total: {
    type: 'counter',
    help: 'Missing events that were fetched from the source and applied; not among the messages that ended.',
    labels: ['shard'],
  },
  inorder_reconnects_total: {
    type: 'counter',
    help: 'Connections to the broker opened again after a loss.',
    labels: [],
  },
  inorder_commit_seconds: {
    type: 'histogram',
    help: 'Duration of one batch at the store: what is read, committed, parked and put on record together.',
    labels: [],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
  },
} as const satisfies Record<string, MetricRow>;

export type MetricName = keyof typeof metricTable;

/** Rows of Markdown: metric with its labels, type, meaning with its buckets. */
export function renderMetricsTable(): string {
  const rows = Object.entries<MetricRow>(metricTable).map(([name, { type, help, labels, buckets }]) => {
    const bounds = buckets === undefined ? '' : ` Buckets: ${buckets.join(', ')}.`;
    return `| \`${name}{${['service', ...labels].join(',')}}\` | ${type} | ${help}${bounds} |`;
  });
  return ['| Metric | Type | Meaning |', '|---|---|---|', ...rows, ''].join('\n');
}
