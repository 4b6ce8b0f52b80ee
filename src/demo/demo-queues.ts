/** The demo's part of the broker: how full its queues are, and their removal with everything else of its stream. */
import type { ChannelModel } from 'amqplib';
import { deadLetterQueueName } from '../rabbitmq/topology-plan.ts';
import type { TopologyPlan } from '../rabbitmq/topology-plan.ts';
import { queueDepths } from '../rabbitmq/queue-depths.ts';
import type { Time } from '../time.ts';

export interface Depths {
  /** Messages ready in the shard queues. */
  readonly shards: number;
  readonly deadLetters: number;
  readonly unrouted: number;
}

export async function readDepths(connection: ChannelModel, plan: TopologyPlan, time: Time): Promise<Depths> {
  const depths = await queueDepths(connection, plan.queues.map(({ name }) => name), time);
  const of = (wanted: (queue: string) => boolean) =>
    depths.filter(({ queue }) => wanted(queue)).reduce((sum, { ready }) => sum + (ready ?? 0), 0);
  const deadLetters = deadLetterQueueName(plan.stream);
  return {
    shards: of((queue) => queue.startsWith(`${plan.stream}.shard.`)),
    deadLetters: of((queue) => queue === deadLetters),
    unrouted: of((queue) => queue === `${plan.stream}.unrouted`),
  };
}

export async function removeTopology(connection: ChannelModel, plan: TopologyPlan): Promise<void> {
  const channel = await connection.createChannel();
  for (const { name } of [...plan.queues, plan.record.queue]) await channel.deleteQueue(name);
  for (const { name } of [...plan.exchanges, plan.record.exchange]) await channel.deleteExchange(name);
  await channel.close();
}
