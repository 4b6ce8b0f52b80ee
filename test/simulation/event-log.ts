/**
 * The event store of a simulated stream, and the shipped relays that publish from it. The log is the memory store, reached over a network
 * that loses requests and answers and delivers some long after their sender has given up; the lease of the relays is a row beside it, by
 * the store's clock. Relays are killed, frozen until another one has the lease, cut off from the broker, and ended as they should.
 */
import { runRelay } from '../../src/event-sourcing/relay.ts';
import { UnavailableError } from '../../src/errors.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { createAmqpPublisher } from '../../src/rabbitmq/publisher.ts';
import type { EventStore, RecordedEvent } from '../../src/stores/event-store.ts';
import { createMemoryEventStore } from '../../src/stores/memory/event-store.ts';
import { type HeldLease, type LeaseRow, StoredRelayLeases } from '../../src/stores/relay-lease.ts';
import { sleep } from '../../src/time.ts';
import type { Letter } from './ledger.ts';
import { ModelConnection } from './model-amqp.ts';
import type { ModelBroker } from './model-broker.ts';
import type { ModelStore } from './model-store.ts';
import { Chance, type Machine } from './virtual-time.ts';
import type { World } from './world.ts';

/** One entity in so many is event-sourced, with about half of the seeds. */
const loggedEvery = 3;
const timeoutMs = 1_000;
const longestLateMs = 4_000;
const endTimeoutMs = 2_000;

export class EventLog {
  readonly #world: World;
  readonly #broker: ModelBroker;
  /** It is down when that is. */
  readonly #store: ModelStore;
  readonly #chance: Chance;
  readonly #log: EventStore;
  readonly #lease = { epoch: 0, session: '', holder: '', position: 0, untilMs: 0 };
  readonly #letters: Letter[] = [];
  readonly #relays: Relay[] = [];
  readonly #all: Relay[] = [];
  readonly #isOn: boolean;
  readonly leaseMs: number;
  readonly pageSize: number;
  #appending: Promise<unknown> = Promise.resolve();
  #started = 0;

  constructor(world: World, broker: ModelBroker, store: ModelStore) {
    this.#world = world;
    this.#broker = broker;
    this.#store = store;
    this.#chance = new Chance(world.scenario.seed, 'event log');
    this.#isOn = this.#chance.hits(0.5);
    this.leaseMs = this.#chance.between(2_000, 5_000);
    this.pageSize = this.#chance.pick([1, 4, 500]);
    this.#log = createMemoryEventStore({ time: world.machine('log').time });
    for (let relays = this.#isOn ? 2 : 0; relays > 0; relays--) this.#start();
  }

  /** Whether it is published from the log, and not by a producer. */
  has({ kind, entityId, isUnsequenced }: Letter): boolean {
    return this.#isOn && kind === 'event' && isUnsequenced !== true && Number(entityId.slice(1)) % loggedEvery === 0;
  }

  /** The events of an entity in their order. */
  append(letter: Letter): void {
    const { id, entityId, sequence, value } = letter;
    const event = { id, type: 'Happened', data: { value } };
    this.#letters.push(letter);
    const append = () => this.#log.append({ entityType: 'thing', entityId }, [event], { expectedVersion: sequence - 1 });
    this.#appending = this.#appending.then(append);
  }

  /** Everything that was appended is published, and the relays know it. */
  get isDone(): boolean {
    return this.#lease.position === this.#letters.length;
  }

  /** Something happens to a relay. */
  disturb(what: 'killed' | 'frozen' | 'cut off'): void {
    const relay = this.#relays.find(({ machine }) => machine.name === this.#lease.holder) ?? this.#relays[0];
    if (relay === undefined) return;
    if (what === 'cut off') return this.#broker.sever(relay.machine);
    if (what === 'frozen') {
      relay.machine.freeze();
      this.#world.schedule.after(this.#chance.between(1, 3 * this.leaseMs), () => relay.machine.wake());
      return;
    }
    this.#relays.splice(this.#relays.indexOf(relay), 1);
    if (this.#chance.hits(0.7)) relay.kill();
    else relay.stop();
    this.#world.schedule.after(this.#chance.between(0, 3_000), () => this.#start());
  }

  /** The world is over. Node keeps signals that are made of others, with all that waits for them, until they are aborted. */
  letGo(): void {
    for (const relay of this.#all) relay.letGo();
  }

  #start(): void {
    const relay = new Relay(this.#world, this.#broker, this, `r${++this.#started}`);
    this.#relays.push(relay);
    this.#all.push(relay);
    relay.machine.do(() => void relay.run());
  }

  seenFrom(machine: Machine): { readonly store: Pick<EventStore, 'readAll' | 'waitForMore'>; readonly row: LeaseRow } {
    const log = this.#log;
    const ask = <R>(serve: () => Promise<R>) => this.#ask(machine, serve);
    const page = async (after: number, limit: number | undefined) => {
      const events: RecordedEvent[] = [];
      for await (const event of log.readAll({ after, limit: limit ?? Number.POSITIVE_INFINITY })) events.push(event);
      return events;
    };
    const store = {
      async *readAll({ after = 0, limit }: { after?: number; limit?: number } = {}) {
        yield* await ask(() => page(after, limit));
      },
      async waitForMore(position: number, signal: AbortSignal) {
        while (!signal.aborted && (await ask(() => page(position, 1))).length === 0) await sleep(machine.time, 2_000, signal);
      },
    };
    const step: LeaseRow['step'] = (...asked) => ask(async () => this.#step(machine, ...asked));
    return { store, row: { step, close: async () => {} } };
  }

  #step(machine: Machine, ...[what, session, epoch, position]: Parameters<LeaseRow['step']>): HeldLease | null {
    const { ledger, schedule } = this.#world;
    const lease = this.#lease;
    if (what === 'take') {
      if (lease.untilMs > schedule.nowMs) return null;
      if (lease.holder !== '' && lease.holder !== machine.name) this.#world.sometimes('another relay took over');
      Object.assign(lease, { epoch: lease.epoch + 1, session, holder: machine.name });
    } else if (epoch !== lease.epoch || session !== lease.session) {
      if (what === 'advance') this.#world.sometimes('a relay without the lease could not advance');
      return null;
    }
    this.#world.note(machine.name, what, `${lease.epoch} ${position}`);
    if (what === 'advance') {
      const early = this.#letters.slice(0, position).find((letter) => ledger.arrivalsOf(letter) === 0);
      if (early !== undefined)
        ledger.fail('a relay advanced past an event that the broker does not have', `${early.id} by ${machine.name}`);
      if (position < lease.position) ledger.fail('the position of the relays went backwards', `${position} after ${lease.position}`);
      lease.position = position;
    }
    lease.untilMs = what === 'release' ? 0 : schedule.nowMs + this.leaseMs;
    return { epoch: lease.epoch, position: lease.position };
  }

  #ask<R>(machine: Machine, serve: () => Promise<R>): Promise<R> {
    const { schedule, latencyMs } = this.#world;
    return new Promise((resolve, reject) => {
      const isLost = this.#world.strikes('requests lost', 0.03);
      const isLate = this.#world.strikes('late execution', 0.03);
      const isUnanswered = isLate || this.#world.strikes('replies lost', 0.03);
      const giveUp = () => reject(new UnavailableError('the event store does not answer'));
      const timer = schedule.after(timeoutMs, () => machine.do(giveUp));
      const execute = async () => {
        if (this.#store.isDown) return;
        const result = await serve();
        if (isUnanswered) return;
        schedule.after(latencyMs(), () => {
          timer.cancel();
          machine.do(() => resolve(result));
        });
      };
      const lateMs = isLate ? timeoutMs + this.#chance.between(0, longestLateMs) : 0;
      if (!isLost) schedule.after(lateMs + latencyMs(), () => void execute());
    });
  }
}

class Relay {
  readonly machine: Machine;
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #log: EventLog;
  readonly #ending = new AbortController();

  constructor(world: World, broker: ModelBroker, log: EventLog, name: string) {
    this.machine = world.machine(name);
    this.#world = world;
    this.#broker = broker;
    this.#log = log;
  }

  /** As `inorder relay` does it. */
  async run(): Promise<void> {
    const { machine } = this;
    const { time, name } = machine;
    const say = (fields: unknown, message: string) => this.#world.note(name, message, fields);
    const log = { debug: () => {}, info: say, warn: say, error: say };
    const { store, row } = this.#log.seenFrom(machine);
    const connection = new ModelConnection(this.#broker, machine);
    const publisher = createAmqpPublisher({ connection, exchange: 's', log });
    const { signal } = this.#ending;
    signal.addEventListener('abort', () => void publisher.close(endTimeoutMs), { once: true });
    const leases = new StoredRelayLeases(row, this.#log.leaseMs, time);
    try {
      await runRelay({ store, leases, publisher, limits: defaultEventLimits, log, signal, time, pageSize: this.#log.pageSize });
      if (!signal.aborted) this.#world.ledger.fail('a relay ended by itself', name);
    } finally {
      await publisher.close(endTimeoutMs);
      await connection.close();
    }
  }

  stop(): void {
    this.machine.do(() => this.letGo());
  }

  letGo(): void {
    this.#ending.abort();
  }

  kill(): void {
    this.machine.kill();
    this.#broker.sever(this.machine);
  }
}
