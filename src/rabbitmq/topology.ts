/**
 * Makes a stream's topology at the broker, or compares. Declaring what is there already changes nothing;
 * what is there with other arguments is refused by the broker and named here, and nothing of it is touched.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { ConfigError, UnavailableError } from '../errors.ts';
import type { BrokerConnection } from './connection.ts';
import type { TopologyPlan } from './topology-plan.ts';

export async function applyTopology(connection: Pick<BrokerConnection, 'ready'>, plan: TopologyPlan): Promise<void> {
  const model = await connection.ready();
  for (const { name, type, arguments: args } of plan.exchanges) {
    await onScratchChannel(model, `exchange ${name}`, (channel) => channel.assertExchange(name, type as 'fanout', { durable: true, arguments: args }));
  }
  for (const { name, arguments: args } of plan.queues) {
    await onScratchChannel(model, `queue ${name}`, (channel) => channel.assertQueue(name, { durable: true, arguments: args }));
  }
  for (const { exchange, queue, routingKey } of plan.bindings) {
    await onScratchChannel(model, `binding of ${queue} to ${exchange}`, (channel) => channel.bindQueue(queue, exchange, routingKey));
  }
}

/** Everything has to be there; arguments cannot be seen this way (`topology check` does, through the management API). */
export async function verifyTopology(connection: Pick<BrokerConnection, 'ready'>, plan: TopologyPlan): Promise<void> {
  const model = await connection.ready();
  for (const { name } of plan.exchanges) await onScratchChannel(model, `exchange ${name}`, (channel) => channel.checkExchange(name));
  for (const { name } of plan.queues) await onScratchChannel(model, `queue ${name}`, (channel) => channel.checkQueue(name));
}

async function onScratchChannel(model: ChannelModel, what: string, act: (channel: Channel) => Promise<unknown>): Promise<void> {
  let channel: Channel;
  try {
    channel = await model.createChannel();
  } catch (error) {
    throw new UnavailableError(`no channel to the broker: ${(error as Error).message}`, { cause: error });
  }
  channel.on('error', () => {});
  try {
    await act(channel);
    await channel.close();
  } catch (error) {
    const code = (error as { code?: number }).code;
    const message = (error as Error).message;
    if (code === 404 || code === 406 || code === 403 || code === 503) throw new ConfigError([`${what}: ${message}`], { cause: error });
    throw new UnavailableError(`${what}: ${message}`, { cause: error });
  }
}
