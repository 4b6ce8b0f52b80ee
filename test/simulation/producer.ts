/**
 * The producers of a stream: programs with the shipped publisher, which wait for room before each event, remember what was confirmed, and
 * publish again what was not. One that dies is followed by another with the same work, which knows only what was confirmed to it.
 */
import type { Log } from '../../src/observability/log.ts';
import { type AmqpPublisher, createAmqpPublisher, type PublisherOptions } from '../../src/rabbitmq/publisher.ts';
import { sleep } from '../../src/time.ts';
import { type Letter, Sender } from './ledger.ts';
import { ModelConnection } from './model-amqp.ts';
import { messageOf, type ModelBroker } from './model-broker.ts';
import { Chance, type Machine } from './virtual-time.ts';
import type { World } from './world.ts';

/** Between an outcome other than `confirmed` and the next attempt. */
const againMs = [200, 3_000] as const;
const closeTimeoutMs = 300;

type PublisherLimits = Required<Pick<PublisherOptions, 'maxOutstanding' | 'maxRefusals'>>;

export class Producers {
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #chance: Chance;
  readonly #running: Producer[] = [];
  readonly #limits: PublisherLimits;
  #started = 0;
  /** Producers whose work is about to be taken on by another one. */
  #ending = 0;

  constructor(world: World, broker: ModelBroker) {
    this.#world = world;
    this.#broker = broker;
    this.#chance = new Chance(world.scenario.seed, 'producers');
    this.#limits = { maxOutstanding: this.#chance.pick([1, 3, 1_000]), maxRefusals: this.#chance.pick([2, 8]) };
    for (let producers = this.#chance.between(1, 2); producers > 0; producers--) this.#start();
  }

  /** Everything is confirmed. */
  get areDone(): boolean {
    return this.#ending === 0 && this.#running.every(({ isDone }) => isDone);
  }

  /** By the producer of its entity, or by another one. */
  publish(letter: Letter, byAnother: boolean): void {
    const own = Number(letter.entityId.slice(1));
    this.#running[(own + (byAnother ? 1 : 0)) % this.#running.length]!.publish(letter);
  }

  cutOff(): void {
    this.#chance.pick(this.#running).severed();
  }

  /** Some end as they should, and tell what they leave. */
  end(): void {
    const at = this.#chance.between(0, this.#running.length - 1);
    const [producer] = this.#running.splice(at, 1);
    this.#start(at);
    const takeOn = (left: readonly Letter[]) => {
      this.#ending--;
      for (const letter of left) this.#running[at]!.publish(letter);
    };
    this.#ending++;
    if (this.#chance.hits(0.4)) return void producer!.close().then(takeOn);
    const left = producer!.kill();
    if (left.length > 0) this.#world.sometimes('a producer died, and another one published what was not confirmed');
    this.#world.schedule.after(this.#chance.between(0, 2_000), () => takeOn(left));
  }

  #start(at = this.#running.length): Producer {
    const producer = new Producer(this.#world, this.#broker, `p${++this.#started}`, this.#limits);
    this.#running.splice(at, 0, producer);
    return producer;
  }
}

class Producer {
  readonly #world: World;
  readonly #machine: Machine;
  readonly #connection: ModelConnection;
  readonly #publisher: AmqpPublisher;
  readonly #sender: Sender;
  readonly #maxOutstanding: number;
  /** In the order in which they are to be published: not confirmed, and not with the publisher. */
  readonly #waiting: Letter[] = [];
  /** With the publisher, or to be tried again later. */
  readonly #open = new Map<string, Letter>();
  #isPublishing = false;
  #isClosed = false;

  constructor(world: World, broker: ModelBroker, name: string, limits: PublisherLimits) {
    const { maxOutstanding } = limits;
    this.#world = world;
    this.#machine = world.machine(name);
    this.#maxOutstanding = maxOutstanding;
    this.#sender = new Sender(world.ledger, name, maxOutstanding === 1);
    world.ledger.senders.set(name, this.#sender);
    this.#connection = new ModelConnection(broker, this.#machine);
    const say = (fields: unknown, message: string) => world.note(name, message, fields);
    const log: Log = { debug: () => {}, info: say, warn: say, error: say };
    this.#publisher = createAmqpPublisher({ connection: this.#connection, exchange: 's', log, ...limits });
  }

  get isDone(): boolean {
    return this.#waiting.length + this.#open.size === 0;
  }

  publish(letter: Letter): void {
    this.#waiting.push(letter);
    this.#machine.do(() => void this.#publishAll());
  }

  severed(): void {
    this.#connection.sever();
  }

  /** Returns what nobody has confirmed to it. */
  kill(): readonly Letter[] {
    this.#machine.kill();
    this.#connection.sever();
    return [...this.#open.values(), ...this.#waiting.splice(0)];
  }

  /** Resolves with what was not confirmed. */
  async close(): Promise<readonly Letter[]> {
    this.#isClosed = true;
    const before = this.#sender.open;
    const { unconfirmed } = await this.#publisher.close(closeTimeoutMs);
    if (unconfirmed > 0) this.#world.sometimes('a publisher was closed with unconfirmed events');
    if (unconfirmed > before) this.#world.ledger.fail('more was left unconfirmed than was published', `${unconfirmed} of ${before}`);
    await this.#connection.close();
    if (this.#sender.open > 0)
      this.#world.ledger.fail('a closed publisher leaves a publish without outcome', `${this.#sender.open} by ${this.#machine.name}`);
    return [...this.#open.values(), ...this.#waiting.splice(0)];
  }

  async #publishAll(): Promise<void> {
    if (this.#isPublishing) return;
    this.#isPublishing = true;
    while (this.#waiting.length > 0 && !this.#isClosed) {
      if (this.#publisher.outstanding >= this.#maxOutstanding) this.#world.sometimes('a publisher had no room');
      await this.#publisher.room();
      const letter = this.#waiting.shift();
      if (letter === undefined || this.#isClosed) {
        if (letter !== undefined) this.#waiting.unshift(letter);
        break;
      }
      if (this.#sender.open >= this.#maxOutstanding)
        this.#world.ledger.fail('an outbox has grown beyond its limit', `${this.#sender.open} of ${this.#machine.name}`);
      void this.#publish(letter);
    }
    this.#isPublishing = false;
  }

  async #publish(letter: Letter): Promise<void> {
    const mark = this.#sender.asked(letter.id);
    this.#open.set(mark, letter);
    const { body, routingKey } = messageOf(letter);
    const properties = { contentType: 'application/json', messageId: letter.id, correlationId: mark };
    const outcome = await this.#publisher.publish({ routingKey, body, properties });
    const wasRefused = this.#sender.ended(mark, outcome.status);
    if (outcome.status === 'confirmed' && wasRefused) this.#world.sometimes('a publish was refused and confirmed in the end');
    if (outcome.status === 'returned') this.#world.sometimes('a publish was returned');
    if (outcome.status === 'failed' && !this.#isClosed) this.#world.sometimes('a publisher gave up what the broker refused');
    if (outcome.status !== 'confirmed') await sleep(this.#machine.time, this.#world.pace.between(...againMs));
    if (outcome.status !== 'confirmed' && this.#isClosed) return;
    this.#open.delete(mark);
    if (outcome.status !== 'confirmed') this.publish(letter);
  }
}
