/** Removes everything that a stream has at the broker and in the store: what a demo or a test has made of its own. */
import { connect } from 'amqplib';
import { planTopology } from '../../src/rabbitmq/topology-plan.ts';
import { Connection } from '../../src/stores/redis/connection.ts';
import { parseRedisUrl } from '../../src/stores/redis/redis-url.ts';
import { systemTime } from '../../src/time.ts';
import type { Services } from './services.ts';

const keysAtOnce = 1_000;
const commandTimeoutMs = 5_000;

/** Each is tried whatever becomes of the other. `stream` is a name without characters that mean something in a pattern. */
export async function removeStream(services: Pick<Services, 'amqpUrl' | 'redisUrl'>, stream: string, shards: number): Promise<void> {
  try {
    await removeTopology(services.amqpUrl, stream, shards);
  } finally {
    await removeKeys(services.redisUrl, stream);
  }
}

async function removeTopology(amqpUrl: string, stream: string, shards: number): Promise<void> {
  const plan = planTopology({ stream, shards, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
  const connection = await connect(amqpUrl);
  // The failed call reports it as well; without a listener the process would end.
  connection.on('error', () => undefined);
  try {
    const channel = await connection.createChannel();
    for (const { name } of [...plan.queues, plan.record.queue]) await channel.deleteQueue(name);
    for (const { name } of [...plan.exchanges, plan.record.exchange]) await channel.deleteExchange(name);
  } finally {
    await connection.close();
  }
}

async function removeKeys(redisUrl: string, stream: string): Promise<void> {
  const target = parseRedisUrl(redisUrl);
  const connection = new Connection({ target, commandTimeoutMs, log: undefined, onReconnect: undefined, time: systemTime });
  try {
    for (const master of await connection.masters()) {
      let cursor = '0';
      do {
        const [next, keys] = await master.scan(cursor, 'MATCH', `inorder:${stream}:*`, 'COUNT', keysAtOnce);
        await connection.send(keys.map((key) => ['UNLINK', key]));
        cursor = next;
      } while (cursor !== '0');
    }
  } finally {
    await connection.close();
  }
}
