/**
 * The broker of the simulation and the real one do the same: both are given the commands that a seed draws (publish, consume as the active
 * or a waiting consumer, acknowledge one or several, reject, give back, abandon a channel, stop, purge), through the interface of the
 * worker's channels. After each, what every consumer has been given is compared, and what lies in the queue and with the dead letters.
 *
 * With half of the seeds the queue has a delivery limit that is reached. Then nothing is given back: a consumer that reaches the limit in
 * this way is given more than its prefetch from then on by 3.10.8.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createShardChannel } from '../../src/rabbitmq/amqp-shard-channel.ts';
import type { OpenShardChannel, ShardChannel, ShardChannelEvents } from '../../src/rabbitmq/shard-channel.ts';
import { createAmqpPublisher, type PublishOutcome } from '../../src/rabbitmq/publisher.ts';
import { type Connection, readQueue } from '../../src/dead-letters/queue-reading.ts';
import { systemTime, type Time } from '../../src/time.ts';
import { planTopology } from '../../src/rabbitmq/topology-plan.ts';
import { applyTopology } from '../../src/rabbitmq/topology.ts';
import { ModelConnection } from '../simulation/model-amqp.ts';
import { ModelBroker, type Objection } from '../simulation/model-broker.ts';
import { Chance } from '../simulation/virtual-time.ts';
import { World } from '../simulation/world.ts';
import { KeptLog, useConnection, useRawChannel } from '../support/rabbitmq.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';

const commandsPerSeed = 40;
const mostConsumers = 3;

/** One of the two brokers, with one shard queue. */
interface Broker {
  publish(numbers: readonly number[]): Promise<void>;
  purge(): Promise<void>;
  open(prefetch: number, events: ShardChannelEvents): ShardChannel;
  /** Until nothing is under way that the broker itself decides on. */
  rest(): Promise<void>;
  /** Messages that nobody has, and those that were rejected. */
  counts(): Promise<{ readonly ready: number; readonly dead: number }>;
}

class Consumer {
  /** As `generation:number`, with a `+` for one that was redelivered. */
  readonly seen: string[] = [];
  readonly unsettled = new Set<number>();
  current: OpenShardChannel | null = null;
  readonly #channel: ShardChannel;

  constructor(broker: Broker, prefetch: number) {
    this.#channel = broker.open(prefetch, {
      opened: (channel) => void (this.current = channel),
      delivered: ({ generation }, deliveries) => {
        for (const { tag, redelivered, message } of deliveries) {
          this.seen.push(`${generation}:${Buffer.from(message.body)}${redelivered ? '+' : ''}`);
          this.unsettled.add(tag);
        }
      },
      lost: () => this.#forget(),
    });
    this.#channel.start();
  }

  settle(how: 'ack' | 'ack multiple' | 'reject' | 'give back', tag: number): void {
    for (const one of this.unsettled) if (one === tag || (how === 'ack multiple' && one < tag)) this.unsettled.delete(one);
    if (how === 'reject') this.current?.reject(tag);
    else if (how === 'give back') this.current?.giveBack(tag);
    else this.current?.ack(tag, how === 'ack multiple');
  }

  abandon(): void {
    this.current?.abandon(new Error('by the test'));
  }

  stop(): Promise<void> {
    this.#forget();
    return this.#channel.stop();
  }

  #forget(): void {
    this.current = null;
    this.unsettled.clear();
  }
}

class Model implements Broker {
  readonly #world: World;
  readonly #broker: ModelBroker;

  constructor(seed: number, deliveryLimit: number) {
    this.#world = new World({ seed, without: [], maxEntities: 1, maxEvents: 1 }, false);
    this.#broker = new ModelBroker(this.#world, 1);
    this.#broker.deliveryLimit = deliveryLimit;
  }

  async purge(): Promise<void> {
    this.#broker.queues[0]!.purge();
  }

  async publish(numbers: readonly number[]): Promise<void> {
    for (const n of numbers) {
      const id = String(n);
      const message = { body: Buffer.from(id), routingKey: 'a', messageId: id, headers: {} };
      const unknown = { contentType: undefined, contentEncoding: undefined, type: undefined, timestamp: undefined };
      const letter = { id, kind: 'event', entityId: 'a', sequence: n, value: n, shard: 0 } as const;
      this.#world.ledger.letters.set(id, letter);
      this.#broker.publish({ letter, message: { ...message, ...unknown, replyTo: undefined, correlationId: undefined } });
    }
  }

  open(prefetch: number, events: ShardChannelEvents): ShardChannel {
    return this.#broker.openChannel(this.#world.machine('consumer'), 0, prefetch, events);
  }

  rest(): Promise<void> {
    return this.#world.schedule.run(() => false);
  }

  async counts() {
    return { ready: this.#broker.queues[0]!.ready, dead: this.#broker.deadLetters.ready };
  }

  connect(): ModelConnection {
    return new ModelConnection(this.#broker, this.#world.machine('client'));
  }

  object(objection: Objection | null): void {
    this.#broker.object(objection);
  }

  /** Lets the time of the model pass until the promise is settled. */
  async settled<T>(promise: Promise<T>): Promise<T> {
    let isOver = false;
    const over = () => void (isOver = true);
    promise.then(over, over);
    while (!isOver) {
      await this.#world.schedule.run(() => isOver);
      await new Promise(setImmediate);
    }
    return promise;
  }

  get deadLetters(): readonly string[] {
    return this.#broker.deadLetters.all.map(({ letter }) => letter.id);
  }
}

async function useRealBroker(t: TestContext, deliveryLimit: number) {
  const { amqpUrl } = await useServices(t);
  const stream = uniqueStream('model');
  const log = new KeptLog();
  const connection = useConnection(t, amqpUrl, log);
  const [queue, deadLetters] = [`${stream}.shard.000`, `${stream}.dead-letters`];
  const plan = planTopology({ stream, shards: 1, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
  const queues = plan.queues.map((one) => {
    return one.name === queue ? { ...one, arguments: { ...one.arguments, 'x-delivery-limit': deliveryLimit } } : one;
  });
  await applyTopology(connection, { ...plan, queues });
  const raw = await useRawChannel(t, amqpUrl);
  const broker: Broker = {
    async publish(numbers) {
      for (const n of numbers) raw.publish(stream, 'a', Buffer.from(String(n)), { persistent: true });
      await raw.waitForConfirms();
    },
    purge: async () => void (await raw.purgeQueue(queue)),
    open: (prefetch, events) => createShardChannel({ connection, queue, shard: 0, prefetch, events, log }),
    rest: async () => undefined,
    counts: async () => ({ ready: (await raw.checkQueue(queue)).messageCount, dead: (await raw.checkQueue(deadLetters)).messageCount }),
  };
  const readDead = async (count: number) => {
    const read: string[] = [];
    await raw.consume(deadLetters, (message) => void read.push(String(message?.content)), { noAck: true });
    await waitFor(() => read.length >= count, { what: 'the dead letters' });
    return read;
  };
  return { broker, readDead, connection, raw, deadLetters, log };
}

/** Both brokers, with the same consumers at each. */
class Pair {
  readonly #brokers: readonly [Model, Broker];
  readonly #consumers: (readonly [Consumer, Consumer])[] = [];
  readonly done: string[] = [];
  /** Of all consumers, as workers have it: from RabbitMQ 4 on, of those that wait, the one with most credit is the next. */
  readonly #prefetch: number;
  #published = 0;

  constructor(model: Model, real: Broker, prefetch: number) {
    this.#brokers = [model, real];
    this.#prefetch = prefetch;
  }

  /** Carries out a command that fits to what the model has come to. */
  async step(chance: Chance, hasLimit: boolean): Promise<void> {
    const at = chance.between(0, Math.max(0, this.#consumers.length - 1));
    const tags = [...(this.#consumers[at]?.[0].unsettled ?? [])];
    const draw = chance.next();
    if (draw < 0.15) await this.publish(chance.between(1, 6));
    else if (draw < 0.3 && this.#consumers.length < mostConsumers) await this.consume(this.#prefetch);
    else if (draw < 0.36 && this.#consumers.length > 0) await this.stop(at);
    else if (draw < (hasLimit ? 0.6 : 0.42) && this.#consumers.length > 1)
      await this.#do(`${at} abandons`, (side) => this.#consumers[at]![side].abandon());
    else if (draw > 0.97) await this.#do('purge', (side) => this.#brokers[side].purge());
    else if (tags.length > 0) {
      const ways = ['ack', 'ack multiple', 'reject', 'give back', 'give back'] as const;
      const how = chance.pick(hasLimit ? ways.slice(0, 3) : ways);
      const tag = chance.pick(tags);
      await this.#do(`${at}: ${how} ${tag}`, (side) => this.#consumers[at]![side].settle(how, tag));
    }
  }

  async publish(count: number): Promise<void> {
    const numbers = Array.from({ length: count }, () => ++this.#published);
    await this.#do(`publish ${count}`, (side) => this.#brokers[side].publish(numbers));
  }

  async consume(prefetch: number): Promise<void> {
    const [model, real] = this.#brokers.map((broker) => new Consumer(broker, prefetch));
    this.#consumers.push([model!, real!]);
    await this.#do(`consume ${prefetch}`, () => undefined);
  }

  async stop(at: number): Promise<void> {
    const [consumers] = this.#consumers.splice(at, 1);
    await this.#do(`stop ${at}`, async (side) => {
      const stopped = consumers![side].stop();
      await this.#brokers[side].rest();
      await stopped;
    });
  }

  reject(at: number, tag: number): Promise<void> {
    return this.#do(`${at}: reject ${tag}`, (side) => this.#consumers[at]![side].settle('reject', tag));
  }

  /** Gives everything to one consumer, which sees it in the order of the queue. */
  async drain(): Promise<void> {
    while (this.#consumers.length > 0) await this.stop(0);
    await this.consume(1_000);
  }

  async #do(what: string, act: (side: 0 | 1) => unknown): Promise<void> {
    this.done.push(what);
    for (const side of [0, 1] as const) {
      await act(side);
      await this.#brokers[side].rest();
    }
    await waitFor(() => this.#agree(), { what: `RabbitMQ to do as the model after: ${this.done.join('; ')}` });
  }

  /** @throws when the real broker has given something that the model has not. */
  async #agree(): Promise<boolean> {
    for (const [model, real] of this.#consumers) {
      const begin = real.seen.map((_, index) => model.seen[index]);
      assert.deepEqual(real.seen, begin, `what RabbitMQ delivers, and what the model does, after: ${this.done.join('; ')}`);
      if (real.seen.length < model.seen.length || real.current?.generation !== model.current?.generation) return false;
    }
    const [model, real] = await Promise.all(this.#brokers.map((broker) => broker.counts()));
    return model!.ready === real!.ready && model!.dead === real!.dead;
  }
}

for (let seed = 1; seed <= 12; seed++) {
  test(`the model broker does what RabbitMQ does, command by command: seed ${seed}`, async (t) => {
    const chance = new Chance(seed, 'commands');
    const hasLimit = seed % 2 === 0;
    const deliveryLimit = hasLimit ? chance.between(1, 3) : 1_000_000;
    const model = new Model(seed, deliveryLimit);
    const { broker, readDead } = await useRealBroker(t, deliveryLimit);
    const prefetch = chance.between(1, 6);
    const pair = new Pair(model, broker, prefetch);
    await pair.publish(8);
    await pair.consume(prefetch);
    for (let command = 0; command < commandsPerSeed; command++) await pair.step(chance, hasLimit);
    await pair.drain();
    assert.deepEqual(await readDead(model.deadLetters.length), model.deadLetters);
  });
}

/** Reads the dead letters page by page, takes out every third, and ends after so many pages. */
async function readSome(connection: Connection, queue: string, time: Time, mostPages: number): Promise<readonly string[]> {
  const seen: string[] = [];
  let pages = 0;
  const reading = readQueue(connection, { queue, pageSize: 3, time });
  for (let step = await reading.next(); !step.done; step = await reading.next()) {
    for (const message of step.value.messages) {
      if (seen.push(String(message.content)) % 3 === 0) step.value.remove(message);
    }
    if (++pages === mostPages) await reading.return('complete');
  }
  return seen;
}

test('the model broker gives dead letters to its readers, and takes them back, as RabbitMQ does', async (t) => {
  const model = new Model(1, 1_000_000);
  const { broker, connection, raw, deadLetters } = await useRealBroker(t, 1_000_000);
  const pair = new Pair(model, broker, 20);
  await pair.publish(10);
  await pair.consume(20);
  for (let tag = 1; tag <= 10; tag++) await pair.reject(0, tag);
  const seen: Record<string, readonly string[]> = { model: [], real: [] };
  for (const mostPages of [1, 2, 9, 9]) {
    const client = model.connect();
    const modelReading = async () => readSome(await client.ready(), 's.dead-letters', client.time, mostPages);
    seen['model'] = await model.settled(modelReading());
    seen['real'] = await readSome(await connection.ready(), deadLetters, systemTime, mostPages);
    assert.deepEqual(seen['real'], seen['model'], `after ${mostPages} pages`);
    const left = (await raw.checkQueue(deadLetters)).messageCount;
    assert.equal(left, (await model.counts()).dead);
  }
  assert.ok(seen['model']!.length > 0, 'some are left to the end');
});

/** What becomes of one publish, and why. */
const became = (outcome: PublishOutcome) =>
  outcome.status === 'failed' ? outcome.error.message.replaceAll(/'[^']*'/g, "'…'") : JSON.stringify(outcome);

for (const objection of [null, 'full', 'no queue', 'no exchange'] as const) {
  test(`a publish to a model broker with ${objection ?? 'nothing against it'} has the outcome that it has with RabbitMQ`, async (t) => {
    const model = new Model(1, 1_000_000);
    const { connection, raw, log } = await useRealBroker(t, 1_000_000);
    await model.publish([1]);
    model.object(objection);
    const exchange = uniqueStream('publishes');
    if (objection !== 'no exchange') await raw.assertExchange(exchange, 'fanout', { durable: false, autoDelete: false });
    if (objection === null || objection === 'full') {
      const limits = objection === null ? {} : { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } };
      await raw.assertQueue(exchange, { durable: true, ...limits });
      await raw.bindQueue(exchange, exchange, '');
      if (objection === 'full') raw.publish(exchange, '', Buffer.from('it fills the queue'));
      await raw.waitForConfirms();
    }
    const client = model.connect();
    const message = { routingKey: 'a', body: Buffer.from('1'), properties: { messageId: '1' } };
    const publishWith = async (one: Pick<typeof connection, 'current' | 'ending' | 'blocked' | 'listen' | 'time'>) => {
      const publisher = createAmqpPublisher({ connection: one, exchange, log, maxRefusals: 1 });
      // Of a full queue the model takes some.
      let outcome = await publisher.publish(message);
      for (let tries = 0; objection === 'full' && outcome.status === 'confirmed' && tries < 50; tries++)
        outcome = await publisher.publish(message);
      await publisher.close();
      return became(outcome);
    };
    await connection.ready();
    const real = await publishWith(connection);
    assert.equal(await model.settled(publishWith(client)), real);
    if (objection === null) assert.equal(real, '{"status":"confirmed"}');
    else assert.notEqual(real, '{"status":"confirmed"}');
    if (objection !== 'no exchange') await raw.deleteExchange(exchange);
    if (objection === null || objection === 'full') await raw.deleteQueue(exchange);
  });
}
