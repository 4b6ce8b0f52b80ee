/** For tests of the RabbitMQ layer: a log that is kept, a raw connection for planting things, a shard channel that records. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import amqp from 'amqplib';
import type { Log, LogFields } from '../../src/observability/log.ts';
import { createShardChannel } from '../../src/rabbitmq/amqp-shard-channel.ts';
import { type BrokerConnection, createConnection } from '../../src/rabbitmq/connection.ts';
import type { OpenShardChannel, RawDelivery, ShardChannel } from '../../src/rabbitmq/shard-channel.ts';
import { systemTime } from '../../src/time.ts';
import { waitFor } from './services.ts';

export interface LoggedLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly fields: LogFields;
  readonly message: string;
}

export class KeptLog implements Log {
  readonly lines: LoggedLine[] = [];

  debug(fields: LogFields, message: string): void {
    this.lines.push({ level: 'debug', fields, message });
  }

  info(fields: LogFields, message: string): void {
    this.lines.push({ level: 'info', fields, message });
  }

  warn(fields: LogFields, message: string): void {
    this.lines.push({ level: 'warn', fields, message });
  }

  error(fields: LogFields, message: string): void {
    this.lines.push({ level: 'error', fields, message });
  }

  /** Everything, as one would read it. */
  get text(): string {
    return this.lines.map(({ level, fields, message }) => `${level} ${message} ${JSON.stringify(fields)}`).join('\n');
  }
}

/** A raw connection that is closed after the test, whatever has become of it. */
export async function useRawConnection(t: TestContext, url: string): Promise<amqp.ChannelModel> {
  const connection = await amqp.connect(url, { noDelay: true });
  connection.on('error', () => undefined);
  t.after(() => connection.close().catch(() => undefined));
  return connection;
}

/** A channel of a connection of its own. */
export async function useRawChannel(t: TestContext, url: string): Promise<amqp.ConfirmChannel> {
  const channel = await (await useRawConnection(t, url)).createConfirmChannel();
  channel.on('error', () => undefined);
  return channel;
}

/** Deletes queues after the test, with a connection of its own; a broker that is gone has none. */
export function deleteAfterwards(t: TestContext, url: string, queues: readonly string[]): void {
  t.after(async () => {
    const connection = await amqp.connect(url).catch(() => null);
    const channel = await connection?.createChannel();
    for (const queue of queues) await channel?.deleteQueue(queue);
    await connection?.close();
  });
}

/** A connection of ours, closed after the test. */
export function useConnection(t: TestContext, url: string, log: Log, name = 'test'): BrokerConnection {
  const connection = createConnection({ urls: [url], name, log, time: systemTime });
  t.after(() => connection.close());
  return connection;
}

/** Arguments of a shard queue, without the dead-letter exchange. */
export const shardArguments = { 'x-queue-type': 'quorum', 'x-single-active-consumer': true, 'x-delivery-limit': 1_000_000 };

/** Persistent messages `from`…`to`, whose body is the number. */
export async function sendNumbers(channel: amqp.ConfirmChannel, queue: string, from: number, to: number): Promise<void> {
  for (let n = from; n <= to; n++) channel.sendToQueue(queue, Buffer.from(String(n)), { persistent: true });
  await channel.waitForConfirms();
}

/** A shard channel with all that it ever said. */
export class RecordedChannel {
  readonly opened: number[] = [];
  readonly lost: { readonly generation: number; readonly cause: Error }[] = [];
  /** One element for each call of `delivered`. */
  readonly batches: { readonly generation: number; readonly deliveries: readonly RawDelivery[] }[] = [];
  readonly channel: ShardChannel;
  readonly #open = new Map<number, OpenShardChannel>();
  /** The calls in their order, for instance `opened 1`, `delivered 1`, `lost 1`. */
  readonly calls: string[] = [];

  constructor(connection: BrokerConnection, queue: string, log: Log, prefetch = 100) {
    this.channel = createShardChannel({
      connection,
      queue,
      shard: 0,
      prefetch,
      log,
      events: {
        opened: (channel) => {
          this.#open.set(channel.generation, channel);
          this.opened.push(channel.generation);
          this.calls.push(`opened ${channel.generation}`);
        },
        delivered: ({ generation }, deliveries) => {
          this.batches.push({ generation, deliveries });
          this.calls.push(`delivered ${generation}`);
        },
        lost: ({ generation }, cause) => {
          this.lost.push({ generation, cause });
          this.calls.push(`lost ${generation}`);
        },
      },
    });
  }

  /** Started, open, and stopped after the test. */
  static async use(t: TestContext, connection: BrokerConnection, queue: string, log: Log, prefetch?: number): Promise<RecordedChannel> {
    const recorded = new RecordedChannel(connection, queue, log, prefetch);
    t.after(() => recorded.channel.stop());
    recorded.channel.start();
    await recorded.untilOpen(1);
    return recorded;
  }

  /** The channel of a generation, which may be lost. */
  of(generation: number): OpenShardChannel {
    const channel = this.#open.get(generation);
    assert.ok(channel, `no channel of generation ${generation} was opened`);
    return channel;
  }

  get generation(): number {
    return this.opened.at(-1) ?? 0;
  }

  /** Bodies as numbers, in the order of arrival; of one generation when it is named. */
  numbers(generation?: number): number[] {
    return this.deliveries(generation).map(({ message }) => Number(Buffer.from(message.body).toString()));
  }

  deliveries(generation?: number): RawDelivery[] {
    return this.batches
      .filter((batch) => generation === undefined || batch.generation === generation)
      .flatMap(({ deliveries }) => deliveries);
  }

  async untilOpen(generations: number, timeoutMs = 20_000): Promise<void> {
    await waitFor(() => this.opened.length >= generations, { what: `generation ${generations} of the channel`, timeoutMs });
  }

  async untilDelivered(count: number, generation?: number): Promise<void> {
    await waitFor(() => this.deliveries(generation).length >= count, { what: `${count} deliveries`, timeoutMs: 20_000 });
  }
}
