/**
 * The model broker as the shipped clients reach it: a connection that is kept, as `BrokerConnection` does it, and channels that behave as
 * those of `amqplib` do. Frames of a connection keep their order. It may be cut: then each side notices when it does, and what was under
 * way, a publish as well as its confirm, arrives or is lost. Whatever the broker has to say to a publish it says on the channel: a confirm,
 * a nack, a return, or the end of the channel.
 */
import { EventEmitter } from 'node:events';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { UnavailableError } from '../../src/errors.ts';
import type { RawMessage } from '../../src/events/event.ts';
import type { BrokerConnection, ConnectionListener } from '../../src/rabbitmq/connection.ts';
import type { PublishableProperties } from '../../src/rabbitmq/outbox.ts';
import { replyCodes } from '../../src/rabbitmq/refusal.ts';
import { type Time, within } from '../../src/time.ts';
import { rawMessage } from '../support/raw-message.ts';
import type { DeadLetter, Reader } from './dead-letter-queue.ts';
import type { ModelBroker } from './model-broker.ts';
import { Link, type Machine } from './virtual-time.ts';
import type { World } from './world.ts';

/** Shortest and longest pause before a lost connection is opened again. */
const reconnectMs = [200, 2_000] as const;
/** How long after the other side's end, or after the last sign of life, a side may notice it. */
const noticeMs = 3_000;

/** What clients need of a connection. */
type Kept = Pick<BrokerConnection, 'current' | 'ending' | 'blocked' | 'listen' | 'time' | 'ready' | 'close'>;

export class ModelConnection implements Kept {
  readonly time: Time;
  ending: Error | null = null;
  blocked: string | null = null;
  readonly #broker: ModelBroker;
  readonly #machine: Machine;
  readonly #listeners = new Set<ConnectionListener>();
  #life: ConnectionLife | null = null;
  #isClosed = false;

  constructor(broker: ModelBroker, machine: Machine) {
    this.time = machine.time;
    this.#broker = broker;
    this.#machine = machine;
    broker.connections.set(machine, (broker.connections.get(machine) ?? new Set()).add(this));
    this.#connect(broker.world.latencyMs());
  }

  get current(): ChannelModel | null {
    return this.#life as unknown as ChannelModel | null;
  }

  listen(listener: ConnectionListener): () => void {
    this.#listeners.add(listener);
    if (this.current !== null) listener.up(this.current);
    return () => this.#listeners.delete(listener);
  }

  async ready(timeoutMs = 5_000): Promise<ChannelModel> {
    let stop: () => void = () => {};
    const up = new Promise<ChannelModel>((resolve) => (stop = this.listen({ up: resolve, lost: () => {} })));
    const connection = this.current ?? (await within(this.time, up, timeoutMs));
    stop();
    if (connection !== null) return connection;
    throw new UnavailableError('the broker does not answer');
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#broker.connections.get(this.#machine)?.delete(this);
    this.#life?.close();
    this.#lost(new Error('the connection was closed here'));
  }

  sever(): void {
    this.#life?.sever();
  }

  #connect(afterMs: number): void {
    this.time.after(afterMs, () => {
      if (this.#isClosed || this.#life !== null) return;
      const life: ConnectionLife = new ConnectionLife(this.#broker, this.#machine, {
        ends: (cause) => {
          if (this.#life === life) this.ending = cause;
        },
        lost: (cause) => this.#life === life && this.#lost(cause),
        blocked: (reason) => this.#life === life && this.#setBlocked(reason),
      });
      this.#life = life;
      this.ending = null;
      for (const listener of [...this.#listeners]) listener.up(this.current!);
    });
  }

  #lost(cause: Error): void {
    if (this.#life === null) return;
    this.#life = null;
    this.blocked = null;
    for (const listener of [...this.#listeners]) listener.lost(cause);
    this.#connect(this.#broker.world.pace.between(...reconnectMs));
  }

  #setBlocked(reason: string | null): void {
    this.blocked = reason;
    for (const listener of [...this.#listeners]) listener.blocked?.(reason);
  }
}

interface ConnectionOwner {
  /** Before the channels report their end. */
  ends(cause: Error): void;
  lost(cause: Error): void;
  blocked(reason: string | null): void;
}

/** One connection, both sides of it; to the clients what `amqplib` calls a channel model. */
class ConnectionLife {
  readonly world: World;
  readonly broker: ModelBroker;
  readonly machine: Machine;
  readonly #owner: ConnectionOwner;
  readonly #toBroker: Link;
  readonly #toClient: Link;
  /** Also those that have ended. */
  readonly #channels: ModelChannel[] = [];
  /** Frames that the broker does not read, for it is short of memory and this connection publishes. */
  readonly #unread: (() => void)[] = [];
  #publishes = false;
  #isOverForClient = false;
  #isOverForBroker = false;

  constructor(broker: ModelBroker, machine: Machine, owner: ConnectionOwner) {
    this.world = broker.world;
    this.broker = broker;
    this.machine = machine;
    this.#owner = owner;
    this.#toBroker = new Link(this.world.schedule, this.world.latencyMs);
    this.#toClient = new Link(this.world.schedule, this.world.latencyMs);
  }

  createChannel(): Promise<ModelChannel> {
    if (this.#isOverForClient) return Promise.reject(new Error('Connection closed'));
    const channel = new ModelChannel(this);
    this.#channels.push(channel);
    return channel.ask(() => channel);
  }

  createConfirmChannel(): Promise<ModelChannel> {
    return this.createChannel();
  }

  toBroker(frame: () => void, isPublish = false): void {
    this.#toBroker.send(() => {
      if (this.#isOverForBroker) return;
      this.#publishes ||= isPublish;
      if (this.#unread.length > 0 || (this.#publishes && this.broker.isShortOfMemory)) this.#leaveUnread(frame);
      else frame();
    });
  }

  toClient(frame: () => void): void {
    this.#toClient.send(() => this.machine.do(() => this.#isOverForClient || frame()));
  }

  close(): void {
    this.toBroker(() => this.#endForBroker());
    this.#endForClient(new Error('closed by the client'));
  }

  sever(): void {
    const { schedule, chance } = this.world;
    if (chance.hits(0.5)) this.#toBroker.cut();
    if (chance.hits(0.5)) this.#toClient.cut();
    this.world.note(this.machine.name, 'severed');
    schedule.after(chance.between(0, noticeMs), () => this.#endForBroker());
    schedule.after(chance.between(0, noticeMs), () =>
      this.machine.do(() => {
        const cause = new Error('the connection was reset');
        if (!this.#isOverForClient) this.#endForClient(cause);
        this.#owner.lost(cause);
      }),
    );
  }

  #leaveUnread(frame: () => void): void {
    this.#unread.push(frame);
    if (this.#unread.length > 1) return;
    this.toClient(() => {
      this.world.sometimes('a publisher was blocked');
      this.#owner.blocked('low on memory');
    });
    this.broker.whenMemoryIsThere(() => {
      for (const unread of this.#unread.splice(0)) if (!this.#isOverForBroker) unread();
      if (!this.#isOverForBroker) this.toClient(() => this.#owner.blocked(null));
    });
  }

  #endForBroker(): void {
    this.#isOverForBroker = true;
    for (const channel of this.#channels) channel.endForBroker(true);
    if (this.broker.lockedBy === this) this.broker.lockedBy = null;
  }

  #endForClient(cause: Error): void {
    this.#owner.ends(cause);
    for (const channel of this.#channels) channel.endForClient();
    this.#isOverForClient = true;
  }
}

interface Publish {
  readonly number: number;
  readonly exchange: string;
  readonly message: RawMessage;
}

type Answered = (refusal: Error | null) => void;

/** Both sides of a channel. What is called and emitted is what `amqplib` has; a call on one that has ended throws as it does there. */
class ModelChannel extends EventEmitter {
  /** What the library has inside, as far as `src/rabbitmq/channels.ts` knows it. */
  readonly connection = { rest: Buffer.alloc(0), recvFrame: () => false };
  readonly #life: ConnectionLife;
  readonly #unanswered = new Set<(error: Error) => void>();
  readonly #unconfirmed = new Map<number, Answered>();
  #published = 0;
  #prefetch = 0;
  #reader: Reader | null = null;
  #isOpenForClient = true;
  /** The client knows of its end, and was told. */
  #isOver = false;
  #isOpenForBroker = true;

  constructor(life: ConnectionLife) {
    super();
    this.#life = life;
    // As the client library does: to it the end of a channel refuses whatever is not confirmed.
    this.on('close', () => {
      for (const answered of this.#unconfirmed.values()) answered(new Error('channel closed'));
      this.#unconfirmed.clear();
    });
  }

  /** Resolves with what `act` has answered at the broker. */
  ask<R>(act: () => R): Promise<R> {
    return new Promise((resolve, reject) => {
      this.#assertOpen();
      this.#unanswered.add(reject);
      this.#life.toBroker(() => {
        if (!this.#isOpenForBroker) return;
        const answer = act();
        if (this.#isOpenForBroker) this.#answer(() => this.#unanswered.delete(reject) && resolve(answer));
      });
    });
  }

  publish(exchange: string, routingKey: string, body: Buffer, options: PublishableProperties, answered: Answered): boolean {
    this.#assertOpen();
    const { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp, headers } = options;
    const properties = { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp, headers: headers ?? {} };
    const publish = { number: ++this.#published, exchange, message: rawMessage({ body, routingKey, ...properties }) };
    this.#unconfirmed.set(publish.number, answered);
    this.#life.toBroker(() => this.#isOpenForBroker && this.#take(publish), true);
    const { world, machine } = this.#life;
    const isFull = world.pace.hits(0.1);
    if (isFull) machine.time.after(world.pace.between(1, 300), () => this.#isOpenForClient && this.emit('drain'));
    return !isFull;
  }

  checkQueue(queue: string): Promise<{ queue: string; messageCount: number; consumerCount: number }> {
    return this.ask(() => ({ queue, messageCount: this.#life.broker.deadLetters.ready, consumerCount: 0 }));
  }

  /** The lock, which is an exclusive queue. */
  assertQueue(queue: string): Promise<{ queue: string }> {
    const { broker } = this.#life;
    return this.ask(() => {
      if (broker.lockedBy === null || broker.lockedBy === this.#life) broker.lockedBy = this.#life;
      else this.#refuse(replyCodes.resourceLocked, `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${queue}'`);
      return { queue };
    });
  }

  deleteQueue(): Promise<{ messageCount: number }> {
    return this.ask(() => {
      if (this.#life.broker.lockedBy === this.#life) this.#life.broker.lockedBy = null;
      return { messageCount: 0 };
    });
  }

  prefetch(count: number): Promise<unknown> {
    return this.ask(() => (this.#prefetch = count));
  }

  /** One consumer per channel, of the dead-letter queue. */
  async consume(_queue: string, arrived: (message: ConsumeMessage) => void): Promise<{ consumerTag: string }> {
    const { deadLetters } = this.#life.broker;
    let tags = 0;
    const deliver = (letter: DeadLetter) => {
      const tag = ++tags;
      reader.unsettled.set(tag, letter);
      const redelivered = letter.isReturned;
      this.#answer(() => arrived(consumed(letter, tag, redelivered)));
    };
    const timeOut = (timeoutMs: number) => {
      const what = `delivery acknowledgement on channel 1 timed out. Timeout value used: ${timeoutMs} ms.`;
      if (this.#isOpenForBroker) this.#refuse(replyCodes.preconditionFailed, `PRECONDITION_FAILED - ${what}`);
    };
    const reader: Reader = { prefetch: this.#prefetch, unsettled: new Map(), isCancelled: false, deliver, timeOut };
    const answered = this.ask(() => ({ consumerTag: 'c' }));
    this.#life.toBroker(() => {
      if (!this.#isOpenForBroker) return;
      this.#reader = reader;
      deadLetters.subscribe(reader);
    });
    return answered;
  }

  cancel(): Promise<unknown> {
    return this.ask(() => {
      if (this.#reader !== null) this.#reader.isCancelled = true;
    });
  }

  ack({ fields }: ConsumeMessage, allUpTo: boolean): void {
    this.#assertOpen();
    const { deadLetters } = this.#life.broker;
    this.#life.toBroker(() => {
      if (this.#isOpenForBroker && this.#reader !== null) deadLetters.settle(this.#reader, fields.deliveryTag, allUpTo);
    });
  }

  /** Its promise stays open where the connection ends first. */
  close(): Promise<void> {
    if (!this.#isOpenForClient) return Promise.reject(new Error('Channel closed'));
    this.#isOpenForClient = false;
    return new Promise((resolve) => {
      this.#life.toBroker(() => {
        this.endForBroker(false);
        this.#life.toClient(() => {
          resolve();
          this.#closed();
        });
      });
    });
  }

  /** What it was given and has not settled comes back: with the end of its connection at once, else a moment after the answer. */
  endForBroker(isLost: boolean): void {
    if (!this.#isOpenForBroker) return;
    this.#isOpenForBroker = false;
    const { broker, world } = this.#life;
    const reader = this.#reader;
    if (reader === null) return;
    reader.isCancelled = true;
    if (isLost) broker.deadLetters.leave(reader, true);
    else world.schedule.after(world.pace.between(0, 20), () => broker.deadLetters.leave(reader, false));
  }

  /** With the connection. */
  endForClient(): void {
    if (this.#isOver) return;
    this.#isOpenForClient = false;
    this.#closed();
  }

  /** At the broker. */
  #take({ number, exchange, message }: Publish): void {
    const { broker, world, machine } = this.#life;
    const fate = broker.take(machine.name, message);
    if (fate === 'no exchange') return this.#refuse(replyCodes.notFound, `NOT_FOUND - no exchange '${exchange}' in vhost '/'`);
    if (fate === 'no queue') {
      const fields = { routingKey: message.routingKey, replyText: 'NO_ROUTE' };
      this.#answer(() => this.emit('return', { fields, properties: message, content: message.body }));
    }
    const refusal = fate === 'full' ? new Error('message nacked') : null;
    const confirm = () => this.#answer(() => this.#confirmed(number, refusal));
    if (fate !== 'stored') confirm();
    // Once it is on the disks of several nodes.
    else world.schedule.after(world.latencyMs(), () => this.#isOpenForBroker && confirm());
  }

  /** The broker ends the channel. */
  #refuse(code: number, text: string): void {
    this.endForBroker(false);
    this.#life.toClient(() => {
      if (!this.#isOpenForClient) return;
      const error = Object.assign(new Error(`Channel closed by server: ${code} with message "${text}"`), { code });
      this.#isOpenForClient = false;
      for (const reject of this.#unanswered) reject(error);
      this.#unanswered.clear();
      this.emit('error', error);
      this.#closed();
    });
  }

  #answer(arrive: () => void): void {
    this.#life.toClient(() => this.#isOpenForClient && arrive());
  }

  #confirmed(number: number, refusal: Error | null): void {
    const answered = this.#unconfirmed.get(number);
    this.#unconfirmed.delete(number);
    answered?.(refusal);
  }

  #closed(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const reject of this.#unanswered) reject(new Error('Channel ended, no reply will be forthcoming'));
    this.#unanswered.clear();
    this.emit('close');
  }

  #assertOpen(): void {
    if (!this.#isOpenForClient) throw Object.assign(new Error('Channel closed'), { name: 'IllegalOperationError' });
  }
}

function consumed({ message }: DeadLetter, deliveryTag: number, redelivered: boolean): ConsumeMessage {
  const { body, routingKey, ...properties } = message;
  const fields = { deliveryTag, redelivered, routingKey, exchange: 's.dlx', consumerTag: 'c' };
  return { content: body, fields, properties } as unknown as ConsumeMessage;
}
