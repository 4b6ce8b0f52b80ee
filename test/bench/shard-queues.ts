/**
 * The queues that all contenders share: Inorder's own topology, made by Inorder, filled before the clock starts and
 * removed at the end.
 */
import amqp from 'amqplib';
import { createLog } from '../../src/observability/log.ts';
import { createConnection } from '../../src/rabbitmq/connection.ts';
import { planTopology, shardQueueName } from '../../src/rabbitmq/topology-plan.ts';
import { applyTopology } from '../../src/rabbitmq/topology.ts';
import { systemTime } from '../../src/time.ts';
import { messagesOf, type Workload } from './workload.ts';

/** Publishes that may be without a confirm. */
const unconfirmedLimit = 5_000;

export class ShardQueues {
  readonly names: readonly string[];
  readonly #stream: string;
  readonly #connection: amqp.ChannelModel;
  readonly #channel: amqp.ConfirmChannel;

  private constructor(stream: string, names: readonly string[], connection: amqp.ChannelModel, channel: amqp.ConfirmChannel) {
    this.#stream = stream;
    this.names = names;
    this.#connection = connection;
    this.#channel = channel;
  }

  static async declare(amqpUrl: string, stream: string, shards: number): Promise<ShardQueues> {
    const log = createLog({ level: 'error', service: 'bench', writeLine: (line) => void process.stderr.write(line) });
    const declaring = createConnection({ urls: [amqpUrl], name: 'inorder bench', log, time: systemTime });
    await applyTopology(declaring, planTopology({ stream, shards, queueType: 'quorum', exchangeType: 'x-consistent-hash' }));
    await declaring.close();
    const connection = await amqp.connect(amqpUrl, { noDelay: true });
    const names = Array.from({ length: shards }, (_, shard) => shardQueueName(stream, shard));
    return new ShardQueues(stream, names, connection, await connection.createConfirmChannel());
  }

  /** Resolves when the broker has confirmed every message. */
  async fill(workload: Workload): Promise<void> {
    const channel = this.#channel;
    let unconfirmed = 0;
    let failure: Error | null = null;
    for (const { entityId, body } of messagesOf(workload)) {
      unconfirmed++;
      const options = { persistent: true, contentType: 'application/json', mandatory: true };
      const flows = channel.publish(this.#stream, entityId, body, options, (error: Error | null) => {
        unconfirmed--;
        failure ??= error;
      });
      if (!flows || unconfirmed >= unconfirmedLimit) await channel.waitForConfirms();
    }
    await channel.waitForConfirms();
    if (failure !== null) throw failure;
    const ready = await this.ready();
    if (ready !== workload.events) throw new Error(`the queues hold ${ready} messages instead of ${workload.events}`);
  }

  /**
   * For the next contender. When a channel is closed right behind a burst of acknowledgements, a quorum queue loses the
   * last of them (seen on 3.10.8: a few hundred of 200,000) and has those messages again.
   */
  async empty(): Promise<void> {
    for (const name of this.names) await this.#channel.purgeQueue(name);
  }

  /** Messages that nobody holds. */
  async ready(): Promise<number> {
    const replies = await Promise.all(this.names.map((name) => this.#channel.checkQueue(name)));
    return replies.reduce((sum, { messageCount }) => sum + messageCount, 0);
  }

  async remove(): Promise<void> {
    for (const name of [...this.names, `${this.#stream}.dead-letters`, `${this.#stream}.unrouted`, `${this.#stream}.store`]) {
      await this.#channel.deleteQueue(name);
    }
    for (const name of [this.#stream, `${this.#stream}.dlx`, `${this.#stream}.unrouted`, `${this.#stream}.store`]) {
      await this.#channel.deleteExchange(name);
    }
    await this.#connection.close();
  }
}
