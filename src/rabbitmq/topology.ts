/**
 * Declares a stream's topology at the broker, or verifies it. Existing objects are compared first: every difference is
 * reported, nothing that differs is changed, and then nothing is declared. Declarations are made in a fixed
 * order, because the ring of a consistent-hash exchange depends on it.
 *
 * topology-check.ts checks what AMQP does not show (bindings, policies).
 */
import type { Channel } from 'amqplib';
import { ConfigError, UnavailableError } from '../errors.ts';
import { brokerWords, replyCodeOf, replyCodes } from './refusal.ts';
import { ScratchChannel, type ConnectionSource } from './channels.ts';
import { beginRecord, type PublishingSource } from './stream-record.ts';
import { type ExchangePlan, type QueuePlan, shardQueueName, type TopologyPlan } from './topology-plan.ts';

/**
 * Declares what is missing. It can be repeated. The first record of the stream is published on `publishing`.
 * @throws ConfigError naming every difference of existing objects, a missing plugin, or a missing permission.
 * @throws UnavailableError when the broker is unavailable, becomes unavailable meanwhile, or loses what was declared before it is bound.
 */
export async function applyTopology(source: ConnectionSource, plan: TopologyPlan, publishing: PublishingSource = source): Promise<void> {
  await ScratchChannel.use(source, async (scratch) => {
    const objects = objectsOf(plan);
    const record = recordObjects(plan);
    // Checked last and declared first: a stream that has shards but no record is older than its record.
    const { present, missing, problems } = await survey(scratch, plan, [...objects, ...record]);
    // Declaring an existing object compares it, and never changes it.
    for (const { label, declare } of present) problems.push(...explain(label, await scratch.attempt(declare)));
    refuseIfAny(problems);
    if (record.some((object) => missing.includes(object))) await makeRecord(scratch, publishing, plan, present);
    for (const { label, declare } of objects) refuseIfAny(explain(label, await scratch.attempt(declare)));
    for (const { exchange, queue, routingKey } of plan.bindings) {
      const refusal = await scratch.attempt((channel) => channel.bindQueue(queue, exchange, routingKey));
      const label = `binding of queue ${queue} to exchange ${exchange}`;
      if (replyCodeOf(refusal) === replyCodes.notFound) throw new UnavailableError(gone(label, refusal!), { cause: refusal });
      refuseIfAny(explain(label, refusal));
    }
  });
}

/**
 * Verifies that everything exists, with passive declarations, which change nothing and need no permission to configure.
 * @throws ConfigError naming everything that is missing.
 * @throws UnavailableError when the broker is unavailable, or becomes unavailable meanwhile.
 */
export async function verifyTopology(source: ConnectionSource, plan: TopologyPlan): Promise<void> {
  await ScratchChannel.use(source, async (scratch) => {
    const { missing, problems } = await survey(scratch, plan, objectsOf(plan));
    problems.push(...missing.map(({ label }) => `${label} does not exist: run \`inorder topology apply\``));
    refuseIfAny(problems);
  });
}

/** One exchange or queue of a plan. */
interface TopologyObject {
  readonly label: string;
  readonly look: (channel: Channel) => Promise<unknown>;
  readonly declare: (channel: Channel) => Promise<unknown>;
}

/** In the order of declaration: exchanges before the objects that name them. */
function objectsOf({ exchanges, queues }: TopologyPlan): readonly TopologyObject[] {
  return [...exchanges.map(exchangeObject), ...queues.map(queueObject)];
}

function recordObjects({ record: { exchange, queue } }: TopologyPlan): readonly [exchange: TopologyObject, queue: TopologyObject] {
  const { label, look, declare } = queueObject(queue);
  const bound = async (channel: Channel) => {
    await declare(channel);
    await channel.bindQueue(queue.name, exchange.name, '');
  };
  return [exchangeObject(exchange), { label, look, declare: bound }];
}

/** If the user may not declare it, there is no record, and the stream works without one. */
async function makeRecord(
  scratch: ScratchChannel,
  publishing: PublishingSource,
  plan: TopologyPlan,
  present: readonly TopologyObject[],
): Promise<void> {
  const isOlder = present.some(({ label }) => label.startsWith(`queue ${plan.stream}.shard.`));
  const make = async ({ label, declare }: TopologyObject): Promise<boolean> => {
    const refusal = await scratch.attempt(declare);
    if (replyCodeOf(refusal) === replyCodes.accessRefused) return false;
    refuseIfAny(explain(label, refusal));
    return true;
  };
  const [exchange, queue] = recordObjects(plan);
  if (await make(exchange)) await beginRecord(publishing, plan.stream, isOlder, () => make(queue));
}

function exchangeObject({ name, type, arguments: args }: ExchangePlan): TopologyObject {
  return {
    label: `exchange ${name}`,
    look: (channel) => channel.checkExchange(name),
    declare: (channel) => channel.assertExchange(name, type, { durable: true, arguments: { ...args } }),
  };
}

function queueObject({ name, arguments: args }: QueuePlan): TopologyObject {
  return {
    label: `queue ${name}`,
    look: (channel) => channel.checkQueue(name),
    declare: (channel) => channel.assertQueue(name, { durable: true, arguments: { ...args } }),
  };
}

interface Survey {
  readonly present: readonly TopologyObject[];
  readonly missing: readonly TopologyObject[];
  readonly problems: string[];
}

async function survey(scratch: ScratchChannel, plan: TopologyPlan, objects: readonly TopologyObject[]): Promise<Survey> {
  const present: TopologyObject[] = [];
  const missing: TopologyObject[] = [];
  const problems: string[] = [];
  for (const object of objects) {
    const refusal = await scratch.attempt(object.look);
    if (refusal === null) present.push(object);
    else if (replyCodeOf(refusal) === replyCodes.notFound) missing.push(object);
    else problems.push(...explain(object.label, refusal));
  }
  problems.push(...(await surplusShard(scratch, plan)));
  return { present, missing, problems };
}

/** A process with a higher SHARDS has declared more queues: its events may go to queues that this process does not know. */
async function surplusShard(scratch: ScratchChannel, { stream, shards }: TopologyPlan): Promise<readonly string[]> {
  const next = shardQueueName(stream, shards);
  const refusal = await scratch.attempt((channel) => channel.checkQueue(next));
  if (refusal !== null && replyCodeOf(refusal) !== replyCodes.resourceLocked) return [];
  return [
    `queue ${next} exists, but SHARDS is ${shards}: every process of a stream needs the same SHARDS; ` +
      'to have fewer shards, unbind and drain the last queues, then delete them',
  ];
}

/**
 * Seen when four workers made a stream at once on an overloaded cluster of 3.10.8: a queue whose declaration was confirmed was not there
 * to be bound. Whoever tries again finds or makes it.
 */
function gone(label: string, refusal: Error): string {
  return `${label}: ${brokerWords(refusal)}, although it was declared a moment ago`;
}

function explain(label: string, refusal: Error | null): readonly string[] {
  if (refusal === null) return [];
  const words = brokerWords(refusal);
  const code = replyCodeOf(refusal);
  if (code === replyCodes.accessRefused) return [`${label}: ${words}; a worker with TOPOLOGY=verify needs no such right`];
  if (code === replyCodes.resourceLocked) return [`${label}: another connection owns it exclusively`];
  const [, argument, wanted, found] = /inequivalent arg '([^']+)'.*: received (.+) but current is (.+)$/s.exec(words) ?? [];
  if (argument === undefined) return [`${label}: ${words}`];
  return [
    `${label} exists with ${argument} ${valueIn(found)} instead of ${valueIn(wanted)}; it was not touched: ` +
      'drain and delete it and run `inorder topology apply` again, or choose another STREAM',
  ];
}

/** The broker writes `'a'`, or `the value 'a' of type 'b'`, or `none`. */
function valueIn(words: string | undefined): string {
  return /'([^']*)'/.exec(words ?? '')?.[1] ?? words ?? 'unknown';
}

function refuseIfAny(problems: readonly string[]): void {
  if (problems.length > 0) throw new ConfigError(problems);
}
