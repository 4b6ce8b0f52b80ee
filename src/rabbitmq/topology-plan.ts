/**
 * The topology of a stream, as data. src/README.md, section 7, explains each argument. The order of declaration matters
 * as well, because the ring of a consistent-hash exchange is rebuilt in binding order: zero-padded names, weight "1",
 * bound in sorted order.
 */

export interface TopologyOptions {
  readonly stream: string;
  readonly shards: number;
  readonly queueType: 'quorum' | 'classic';
  readonly exchangeType: 'x-consistent-hash' | 'x-modulus-hash';
}

export interface ExchangePlan {
  readonly name: string;
  readonly type: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface QueuePlan {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface BindingPlan {
  readonly exchange: string;
  readonly queue: string;
  readonly routingKey: string;
}

export interface TopologyPlan extends TopologyOptions {
  readonly exchanges: readonly ExchangePlan[];
  readonly queues: readonly QueuePlan[];
  readonly bindings: readonly BindingPlan[];
  /** For the broker's record of the store (`stream-record.ts`), not for events. */
  readonly record: { readonly exchange: ExchangePlan; readonly queue: QueuePlan };
}

/** Too high to be reached by redeliveries; explicit because the default of 4.x is 20. */
const deliveryLimit = 1_000_000;
/** There is one record, and rarely a second; the oldest are dropped first. */
const maxRecords = 100;

export function shardQueueName(stream: string, shard: number): string {
  return `${stream}.shard.${String(shard).padStart(3, '0')}`;
}

/** In the order of the shards. */
export function shardQueueNames({ stream, shards }: Pick<TopologyOptions, 'stream' | 'shards'>): readonly string[] {
  return Array.from({ length: shards }, (_, shard) => shardQueueName(stream, shard));
}

/** Whether it is the name of a shard queue of the stream, for any number of shards. */
export function isShardQueueName(stream: string, name: string): boolean {
  const shard = name.startsWith(`${stream}.shard.`) ? name.slice(`${stream}.shard.`.length) : '';
  return /^\d{3,}$/.test(shard) && shardQueueName(stream, Number(shard)) === name;
}

export function deadLetterQueueName(stream: string): string {
  return `${stream}.dead-letters`;
}

export function unroutedQueueName(stream: string): string {
  return `${stream}.unrouted`;
}

/** The name of both the exchange and the queue. */
export function recordName(stream: string): string {
  return `${stream}.store`;
}

export function planTopology(options: TopologyOptions): TopologyPlan {
  const { stream, queueType, exchangeType } = options;
  const deadLetterExchange = `${stream}.dlx`;
  const deadLetters = deadLetterQueueName(stream);
  const unrouted = unroutedQueueName(stream);
  const quorum = { 'x-queue-type': 'quorum', 'x-delivery-limit': deliveryLimit };
  const shardArguments = {
    ...(queueType === 'quorum'
      ? { ...quorum, 'x-dead-letter-strategy': 'at-least-once', 'x-overflow': 'reject-publish' }
      : { 'x-queue-type': 'classic' }),
    'x-single-active-consumer': true,
    'x-dead-letter-exchange': deadLetterExchange,
  };
  const shardQueues = shardQueueNames(options).map((name) => ({ name, arguments: shardArguments }));
  return {
    ...options,
    exchanges: [
      { name: unrouted, type: 'fanout', arguments: {} },
      { name: deadLetterExchange, type: 'fanout', arguments: {} },
      { name: stream, type: exchangeType, arguments: { 'alternate-exchange': unrouted } },
    ],
    queues: [{ name: unrouted, arguments: quorum }, { name: deadLetters, arguments: quorum }, ...shardQueues],
    bindings: [
      { exchange: unrouted, queue: unrouted, routingKey: '' },
      { exchange: deadLetterExchange, queue: deadLetters, routingKey: '' },
      ...shardQueues.map(({ name }) => ({ exchange: stream, queue: name, routingKey: '1' })),
    ],
    record: {
      exchange: { name: recordName(stream), type: 'fanout', arguments: {} },
      queue: { name: recordName(stream), arguments: { ...quorum, 'x-max-length': maxRecords } },
    },
  };
}
