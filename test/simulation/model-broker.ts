/**
 * A broker in memory with what RabbitMQ does to a shard queue and its consumers (src/README.md, section 7): a single active consumer, the
 * next one in the order of subscription; a prefetch; tags from 1 per channel; what a channel held goes back to the head, in order, when
 * the broker sees its end, and is marked as redelivered; rejects go to the dead-letter queue. Frames of a channel keep their order.
 */
import type { RawMessage } from '../../src/events/event.ts';
import type { OpenShardChannel, RawDelivery, ShardChannel, ShardChannelEvents } from '../../src/rabbitmq/shard-channel.ts';
import type { Timer } from '../../src/time.ts';
import type { Letter } from './ledger.ts';
import { Link, type Machine } from './virtual-time.ts';
import type { World } from './world.ts';

/** One copy of a message. */
export interface Copy {
  readonly letter: Letter;
  readonly message: RawMessage;
}

interface Queued extends Copy {
  /** Its place in the queue, which it keeps when it comes back. */
  readonly place: number;
  isReturned: boolean;
}

export class ModelBroker {
  readonly queues: readonly ShardQueue[];
  /** What was rejected, in that order. */
  readonly deadLetters: Copy[] = [];
  readonly world: World;
  /** Who replays dead letters; it alone, as long as it lives. */
  replayer: Machine | null = null;

  constructor(world: World, shards: number) {
    this.world = world;
    this.queues = Array.from({ length: shards }, (_, shard) => new ShardQueue(this, shard));
  }

  /** Arrives by itself: each of a producer's attempts may overtake the one before. */
  publish(copy: Copy): void {
    this.world.ledger.arrived(copy.letter);
    this.queues[copy.letter.shard]!.enqueue(copy);
  }

  openChannel(machine: Machine, shard: number, prefetch: number, events: ShardChannelEvents): WorkerChannel {
    return new WorkerChannel(this.world, machine, this.queues[shard]!, prefetch, events);
  }
}

export class ShardQueue {
  readonly shard: number;
  readonly #broker: ModelBroker;
  #ready: Queued[] = [];
  /** In the order of subscription: the first is active. */
  readonly #consumers: Consumer[] = [];
  #places = 0;

  constructor(broker: ModelBroker, shard: number) {
    this.shard = shard;
    this.#broker = broker;
  }

  get isEmpty(): boolean {
    return this.#ready.length === 0 && this.#consumers.every(({ unsettled }) => unsettled.size === 0);
  }

  enqueue(copy: Copy): void {
    this.#ready.push({ ...copy, place: ++this.#places, isReturned: false });
    this.deliver();
  }

  subscribe(consumer: Consumer): void {
    if (consumer.hasLeft) return;
    this.#consumers.push(consumer);
    this.deliver();
  }

  leave(consumer: Consumer): void {
    consumer.hasLeft = true;
    const at = this.#consumers.indexOf(consumer);
    if (at < 0) return;
    this.#consumers.splice(at, 1);
    if (at === 0 && this.#consumers.length > 0) this.#broker.world.sometimes('a standby took over');
    this.takeBack([...consumer.unsettled.values()]);
    consumer.unsettled.clear();
    this.deliver();
  }

  takeBack(messages: readonly Queued[]): void {
    for (const message of messages) message.isReturned = true;
    this.#ready = this.#ready.concat(messages).sort((a, b) => a.place - b.place);
  }

  deliver(): void {
    const [active] = this.#consumers;
    while (active !== undefined && active.unsettled.size < active.prefetch) {
      const message = this.#ready.shift();
      if (message === undefined) return;
      active.deliver(message);
    }
  }

  settle(consumer: Consumer, tag: number, multiple: boolean, how: 'ack' | 'reject' | 'give back'): void {
    const { world, deadLetters } = this.#broker;
    // The end of its channel came first.
    if (!this.#consumers.includes(consumer)) return world.sometimes('a delivery was settled after the end of its channel');
    const tags = multiple ? [...consumer.unsettled.keys()].filter((one) => one <= tag) : [tag];
    if (!consumer.unsettled.has(tag)) return world.ledger.settledTwice(`${consumer.name}: ${how} ${tag}`);
    for (const one of tags) {
      const message = consumer.unsettled.get(one)!;
      consumer.unsettled.delete(one);
      world.note('broker', how, `${consumer.name} ${one} ${message.letter.id}`);
      if (how === 'ack') world.ledger.acknowledged(message.letter);
      else if (how === 'give back') this.takeBack([message]);
      else {
        world.ledger.rejected(message.letter);
        deadLetters.push(message);
      }
    }
    this.deliver();
  }
}

/** The broker's side of a channel that consumes. */
class Consumer {
  readonly name: string;
  readonly prefetch: number;
  readonly unsettled = new Map<number, Queued>();
  /** Its connection may end before it has come to the queue. */
  hasLeft = false;
  readonly #toWorker: (arrive: () => void) => void;
  readonly #arrived: (delivery: RawDelivery) => void;
  #tags = 0;

  constructor(name: string, prefetch: number, toWorker: (arrive: () => void) => void, arrived: (delivery: RawDelivery) => void) {
    this.name = name;
    this.prefetch = prefetch;
    this.#toWorker = toWorker;
    this.#arrived = arrived;
  }

  deliver(message: Queued): void {
    const tag = ++this.#tags;
    this.unsettled.set(tag, message);
    this.#toWorker(() => this.#arrived({ tag, redelivered: message.isReturned, message: message.message }));
  }
}

/** Shortest and longest pause before a channel is opened again. */
const reopenMs = [200, 2_000] as const;
/** How long after the other side's end, or after the last sign of life, a side may notice it. */
const noticeMs = 3_000;

/** The worker's side: one channel after the other. */
export class WorkerChannel implements ShardChannel {
  readonly #world: World;
  readonly #machine: Machine;
  readonly #queue: ShardQueue;
  readonly #prefetch: number;
  readonly #events: ShardChannelEvents;
  #life: ChannelLife | null = null;
  #generation = 0;
  #retry: Timer | null = null;
  #isStopped = false;

  constructor(world: World, machine: Machine, queue: ShardQueue, prefetch: number, events: ShardChannelEvents) {
    this.#world = world;
    this.#machine = machine;
    this.#queue = queue;
    this.#prefetch = prefetch;
    this.#events = events;
  }

  start(): void {
    if (this.#isStopped || this.#life !== null) return;
    this.#life = new ChannelLife(this.#world, this.#machine, this.#queue, this.#prefetch, ++this.#generation, {
      opened: (channel) => this.#events.opened(channel),
      delivered: (channel, deliveries) => this.#events.delivered(channel, deliveries),
      lost: (channel, cause) => this.#lost(channel, cause),
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#retry?.cancel();
    const life = this.#life;
    this.#life = null;
    await life?.close();
  }

  /** The connection breaks: each side notices when it does, and what is under way may be lost. */
  sever(): void {
    this.#life?.sever();
  }

  #lost(channel: ChannelLife, cause: Error): void {
    if (this.#life !== channel) return;
    this.#life = null;
    this.#retry = this.#machine.time.after(this.#world.pace.between(...reopenMs), () => this.start());
    if (channel.isOpen) this.#events.lost(channel, cause);
  }
}

interface ChannelOwner {
  opened(channel: ChannelLife): void;
  delivered(channel: ChannelLife, deliveries: readonly RawDelivery[]): void;
  /** Also of one that was never open. */
  lost(channel: ChannelLife, cause: Error): void;
}

class ChannelLife implements OpenShardChannel {
  readonly generation: number;
  isOpen = false;
  readonly #world: World;
  readonly #machine: Machine;
  readonly #queue: ShardQueue;
  readonly #owner: ChannelOwner;
  readonly #toBroker: Link;
  readonly #toWorker: Link;
  readonly #consumer: Consumer;
  readonly #answers = new Set<(isAnswered: boolean) => void>();
  #arrived: RawDelivery[] = [];
  #hasEnded = false;

  constructor(world: World, machine: Machine, queue: ShardQueue, prefetch: number, generation: number, owner: ChannelOwner) {
    this.generation = generation;
    this.#world = world;
    this.#machine = machine;
    this.#queue = queue;
    this.#owner = owner;
    this.#toBroker = new Link(world.schedule, world.latencyMs);
    this.#toWorker = new Link(world.schedule, world.latencyMs);
    const name = `${machine.name}/${queue.shard}/${generation}`;
    this.#consumer = new Consumer(
      name,
      prefetch,
      (arrive) => this.#send(arrive),
      (delivery) => this.#arrives(delivery),
    );
    this.#toBroker.send(() => {
      if (machine.state === 'dead') return;
      // Deliveries may come with the answer, and are handed on later.
      this.#send(() => {
        this.isOpen = true;
        world.note(name, 'opened');
        owner.opened(this);
      });
      queue.subscribe(this.#consumer);
    });
  }

  ack(tag: number, multiple: boolean): void {
    this.#settle(tag, multiple, 'ack');
  }

  reject(tag: number): void {
    this.#settle(tag, false, 'reject');
  }

  giveBack(tag: number): void {
    this.#world.sometimes('a delivery was given back for want of memory');
    this.#settle(tag, false, 'give back');
  }

  roundTrip(): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#hasEnded) return resolve(false);
      this.#answers.add(resolve);
      this.#toBroker.send(() => this.#send(() => this.#answers.delete(resolve) && resolve(true)));
    });
  }

  isAlive(): Promise<boolean> {
    return this.roundTrip();
  }

  abandon(cause: Error): void {
    if (this.#hasEnded) return;
    this.#toBroker.send(() => this.#queue.leave(this.#consumer));
    this.#ends(cause);
  }

  async close(): Promise<void> {
    this.#toBroker.send(() => {
      this.#queue.leave(this.#consumer);
      this.#send(() => this.#answers.forEach((resolve) => resolve(false)));
    });
    this.#hasEnded = true;
    await new Promise<boolean>((resolve) => this.#answers.add(resolve));
  }

  sever(): void {
    const { schedule, chance } = this.#world;
    if (chance.hits(0.5)) this.#toBroker.cut();
    if (chance.hits(0.5)) this.#toWorker.cut();
    this.#world.note(this.#consumer.name, 'severed');
    schedule.after(chance.between(0, noticeMs), () => this.#queue.leave(this.#consumer));
    schedule.after(chance.between(0, noticeMs), () => this.#machine.do(() => this.#ends(new Error('the connection was reset'))));
  }

  #ends(cause: Error): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    for (const resolve of this.#answers) resolve(false);
    this.#owner.lost(this, cause);
  }

  #settle(tag: number, multiple: boolean, how: 'ack' | 'reject' | 'give back'): void {
    if (this.#hasEnded) return;
    this.#toBroker.send(() => this.#queue.settle(this.#consumer, tag, multiple, how));
  }

  #send(arrive: () => void): void {
    this.#toWorker.send(() => this.#machine.do(arrive));
  }

  /** What comes in one tick of the event loop is handed on at its end. */
  #arrives(delivery: RawDelivery): void {
    if (this.#hasEnded) return;
    if (this.#arrived.length === 0) {
      this.#machine.time.afterTick(() => {
        const deliveries = this.#arrived;
        this.#arrived = [];
        if (!this.#hasEnded) this.#owner.delivered(this, deliveries);
      });
    }
    this.#arrived.push(delivery);
  }
}
