/**
 * A broker in memory with what RabbitMQ does to a shard queue and its consumers (src/README.md, section 7): a single active consumer, the
 * next one in the order of subscription; a prefetch; tags from 1 per channel; what a channel held goes back, in order, when the broker
 * sees its end, comes ahead of what was never delivered and behind what else came back, and is marked as redelivered; rejects go to the
 * dead-letter queue. Frames of a channel keep their order. `test/integration/model-broker.test.ts` compares it with the real one.
 */
import { envelopeText } from '../../src/events/encode.ts';
import type { RawMessage } from '../../src/events/event.ts';
import type { OpenShardChannel, RawDelivery, ShardChannel, ShardChannelEvents } from '../../src/rabbitmq/shard-channel.ts';
import type { Timer } from '../../src/time.ts';
import { rawMessage } from '../support/raw-message.ts';
import { DeadLetterQueue } from './dead-letter-queue.ts';
import type { Letter } from './ledger.ts';
import { Link, type Machine } from './virtual-time.ts';
import type { World } from './world.ts';

/** One copy of a message. */
export interface Copy {
  readonly letter: Letter;
  readonly message: RawMessage;
}

/**
 * A queue refuses what comes while it is full, some of it is taken all the same, for it is read meanwhile; no queue is bound; the exchange
 * is deleted, to be declared anew; or nothing is read of connections that publish.
 */
export const objections = ['full', 'no queue', 'no exchange', 'no memory'] as const;
export type Objection = (typeof objections)[number];

interface Queued extends Copy {
  /** How often it came back. */
  returns: number;
  /** When it was delivered last. */
  deliveredAtMs: number;
}

export class ModelBroker {
  readonly queues: ShardQueue[];
  /** Where a changed ring has moved entities to. */
  readonly #moved = new Map<string, number>();
  readonly deadLetters: DeadLetterQueue;
  readonly world: World;
  /** A message that comes back more often is dead-lettered. */
  deliveryLimit = Number.POSITIVE_INFINITY;
  /** Of the clients, by machine. */
  readonly connections = new Map<Machine, Set<{ sever(): void }>>();
  /** The connection that has the lock on the dead letters. */
  lockedBy: object | null = null;
  /** What it has against publishes; null: nothing. */
  #objection: Objection | null = null;
  #whenMemoryIsThere: (() => void)[] = [];

  constructor(world: World, shards: number) {
    this.world = world;
    this.deadLetters = new DeadLetterQueue(world);
    this.queues = Array.from({ length: shards }, (_, shard) => new ShardQueue(this, shard));
    world.ledger.deliveredSince = (worker, shard, ...from) => this.queues[shard]!.deliveredSince(worker, ...from);
  }

  publish(copy: Copy): void {
    this.world.ledger.arrived(copy.letter);
    const { entityId, shard } = copy.letter;
    this.queues[this.#moved.get(entityId) ?? shard]!.enqueue(copy);
  }

  addShard(): void {
    this.queues.push(new ShardQueue(this, this.queues.length));
  }

  /** What is published from now on goes to that shard; what lies in the other stays there. */
  move(entityId: string, shard: number): void {
    this.#moved.set(entityId, shard);
    this.world.ledger.moved.add(entityId);
  }

  /** The client's connections break. */
  sever(machine: Machine): void {
    for (const connection of this.connections.get(machine) ?? []) connection.sever();
  }

  /** A client's publish has come. */
  take(client: string, message: RawMessage): 'stored' | Exclude<Objection, 'no memory'> {
    const { ledger, chance } = this.world;
    const letter = ledger.letters.get(message.messageId as string);
    const objection = this.#objection;
    const sender = ledger.senders.get(client);
    if (letter === undefined) ledger.fail('something was published that nobody has', `${message.messageId} by ${client}`);
    else if (objection === 'no exchange' || objection === 'no queue' || (objection === 'full' && chance.hits(0.5))) {
      sender?.refused(message.correlationId);
      this.world.note('broker', objection, `${client} ${letter.id}`);
      return objection;
    } else {
      this.publish({ letter, message });
      if (sender?.stored(message.correlationId)) this.world.sometimes('a confirm was lost, and the event published again');
    }
    return 'stored';
  }

  get isShortOfMemory(): boolean {
    return this.#objection === 'no memory';
  }

  whenMemoryIsThere(go: () => void): void {
    this.#whenMemoryIsThere.push(go);
  }

  object(objection: Objection | null): void {
    this.#objection = objection;
    if (!this.isShortOfMemory) for (const go of this.#whenMemoryIsThere.splice(0)) go();
  }

  openChannel(machine: Machine, shard: number, prefetch: number, events: ShardChannelEvents): WorkerChannel {
    return new WorkerChannel(this.world, machine, this.queues[shard]!, prefetch, events);
  }
}

export class ShardQueue {
  readonly shard: number;
  readonly #broker: ModelBroker;
  readonly #ready: Queued[] = [];
  /** What came back, behind what came back before it and ahead of all others. */
  readonly #returned: Queued[] = [];
  /** In the order of subscription: the first is active. */
  readonly #consumers: Consumer[] = [];

  constructor(broker: ModelBroker, shard: number) {
    this.shard = shard;
    this.#broker = broker;
  }

  /** Messages that nobody has. */
  get ready(): number {
    return this.#returned.length + this.#ready.length;
  }

  get isEmpty(): boolean {
    return this.ready === 0 && this.#consumers.every(({ unsettled }) => unsettled.size === 0);
  }

  enqueue(copy: Copy): void {
    this.#ready.push({ ...copy, returns: 0, deliveredAtMs: 0 });
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
    for (const { letter } of consumer.unsettled.values()) this.#broker.world.ledger.cameBack(consumer.worker, letter);
    this.takeBack([...consumer.unsettled.values()]);
    consumer.unsettled.clear();
    this.deliver();
  }

  takeBack(messages: readonly Queued[]): void {
    const { world, deadLetters, deliveryLimit } = this.#broker;
    for (const message of messages) {
      if (++message.returns <= deliveryLimit) {
        this.#returned.push(message);
        continue;
      }
      world.sometimes('the broker dead-lettered what came back too often');
      world.note('broker', 'delivery limit', message.letter.id);
      world.ledger.droppedByBroker(message.letter);
      deadLetters.push(message, 'delivery_limit');
    }
  }

  /** What nobody has is lost. */
  purge(): readonly Copy[] {
    const lost = [...this.#returned.splice(0), ...this.#ready.splice(0)];
    for (const { letter } of lost) this.#broker.world.ledger.lost(letter);
    return lost;
  }

  /** Closes the channel that has had a message for longer. */
  timeOut(consumerTimeoutMs: number): void {
    const { world } = this.#broker;
    const [active] = this.#consumers;
    const [oldest] = active?.unsettled.values() ?? [];
    if (active === undefined || oldest === undefined || world.schedule.nowMs - oldest.deliveredAtMs <= consumerTimeoutMs) return;
    world.sometimes('the broker closed a channel on which nothing was acknowledged for long');
    world.note('broker', 'consumer timeout', active.name);
    active.close(new Error('PRECONDITION_FAILED - delivery acknowledgement on the channel timed out'));
    this.leave(active);
  }

  deliver(): void {
    const [active] = this.#consumers;
    while (active !== undefined && active.unsettled.size < active.prefetch) {
      const message = this.#returned.shift() ?? this.#ready.shift();
      if (message === undefined) return;
      message.deliveredAtMs = this.#broker.world.schedule.nowMs;
      active.deliver(message);
    }
  }

  settle(consumer: Consumer, tag: number, multiple: boolean, how: 'ack' | 'reject' | 'give back'): void {
    const { world, deadLetters } = this.#broker;
    // The end of its channel came first.
    if (!this.#consumers.includes(consumer)) return world.sometimes('a delivery was settled after the end of its channel');
    const wasFull = consumer.unsettled.size >= consumer.prefetch;
    const tags = multiple ? [...consumer.unsettled.keys()].filter((one) => one <= tag) : [tag];
    if (!consumer.unsettled.has(tag)) return world.ledger.settledTwice(`${consumer.name}: ${how} ${tag}`);
    for (const one of tags) {
      const message = consumer.unsettled.get(one)!;
      consumer.unsettled.delete(one);
      world.note('broker', how, `${consumer.name} ${one} ${message.letter.id}`);
      if (how === 'ack') world.ledger.acknowledged(message.letter, consumer.worker, message.deliveredAtMs);
      else if (how === 'give back') this.takeBack([message]);
      else {
        world.ledger.rejected(message.letter);
        deadLetters.push(message);
      }
    }
    // The queue learns of the room that it was given a moment later than the channel.
    if (wasFull) world.schedule.after(world.pace.between(0, longestFillingMs), () => this.deliver());
    else this.deliver();
  }

  /** When the first of what this worker has of the entity, from that sequence on, was delivered. */
  deliveredSince(worker: string, entityId: string, sequence: number): number | null {
    const consumer = this.#consumers.find((one) => one.worker === worker);
    let sinceMs: number | null = null;
    for (const { letter, deliveredAtMs } of consumer?.unsettled.values() ?? [])
      if (letter.entityId === entityId && letter.sequence >= sequence) sinceMs = Math.min(sinceMs ?? deliveredAtMs, deliveredAtMs);
    return sinceMs;
  }
}

/** The broker's side of a channel that consumes. */
class Consumer {
  readonly worker: string;
  readonly name: string;
  readonly prefetch: number;
  readonly unsettled = new Map<number, Queued>();
  /** Its connection may end before it has come to the queue. */
  hasLeft = false;
  readonly #toWorker: (arrive: () => void) => void;
  readonly #arrived: (delivery: RawDelivery) => void;
  readonly #closed: (cause: Error) => void;
  #tags = 0;

  constructor(
    worker: string,
    name: string,
    prefetch: number,
    toWorker: (arrive: () => void) => void,
    arrived: (delivery: RawDelivery) => void,
    closed: (cause: Error) => void,
  ) {
    this.worker = worker;
    this.name = name;
    this.prefetch = prefetch;
    this.#toWorker = toWorker;
    this.#arrived = arrived;
    this.#closed = closed;
  }

  /** By the broker. */
  close(cause: Error): void {
    this.#toWorker(() => this.#closed(cause));
  }

  deliver(message: Queued): void {
    const tag = ++this.#tags;
    this.unsettled.set(tag, message);
    this.#toWorker(() => this.#arrived({ tag, redelivered: message.returns > 0, message: message.message }));
  }
}

const longestFillingMs = 60;
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
      machine.name,
      name,
      prefetch,
      (arrive) => this.#send(arrive),
      (delivery) => this.#arrives(delivery),
      (cause) => this.#ends(cause),
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
      this.#toBroker.send(() => {
        // On a channel that the broker has closed it answers nothing.
        if (this.#consumer.hasLeft) return;
        this.#world.ledger.turned(this.#machine.name, this.#queue.shard);
        this.#send(() => this.#answers.delete(resolve) && resolve(true));
      });
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
    // Now and then the worker hears of it only long after another one has begun.
    const unnoticedMs = chance.between(0, chance.hits(0.2) ? 10 * noticeMs : noticeMs);
    schedule.after(unnoticedMs, () => this.#machine.do(() => this.#ends(new Error('the connection was reset'))));
  }

  #ends(cause: Error): void {
    // Also of the close.
    for (const resolve of this.#answers) resolve(false);
    if (this.#hasEnded) return;
    this.#hasEnded = true;
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

/** As the producer sends it. */
export function messageOf(letter: Letter): RawMessage {
  const { id, kind, entityId, value } = letter;
  const sequence = letter.isUnsequenced ? undefined : letter.sequence;
  const text = envelopeText({ id, entityType: 'thing', entityId, sequence, type: 'Happened', data: { value } });
  const body = Buffer.from(kind === 'malformed' ? text.slice(0, -1) : text);
  return rawMessage({ body, routingKey: entityId, messageId: id, contentType: 'application/json' });
}
