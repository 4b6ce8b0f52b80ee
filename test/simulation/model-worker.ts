/** A worker on a machine of the simulation: the shipped shards and the watch over the store, on the models of broker and store. */
import { defineHandler } from '../../src/aggregates/define.ts';
import { createProcessors, type Processors } from '../../src/aggregates/processors.ts';
import { OrderingDetector } from '../../src/detection/detector.ts';
import { PermanentError, UnavailableError } from '../../src/errors.ts';
import { decodeMessage } from '../../src/events/decode.ts';
import { defaultEventLimits, type Event } from '../../src/events/event.ts';
import type { Log } from '../../src/observability/log.ts';
import type { Metrics, ShardMetrics } from '../../src/observability/metrics.ts';
import type { SequencerLimits } from '../../src/ordering/facts.ts';
import type { ShardChannelEvents } from '../../src/rabbitmq/shard-channel.ts';
import { patiently, sleep } from '../../src/time.ts';
import type { Store } from '../../src/stores/store.ts';
import { AutoReplay, replayOnce, type ReplayRequest, turnTaker } from '../../src/worker/auto-replay.ts';
import type { GapSource } from '../../src/stores/event-store.ts';
import { GapRepair } from '../../src/worker/gap-repair.ts';
import { shareOut, type WorkerMemory } from '../../src/worker/memory.ts';
import { Shard } from '../../src/worker/shard.ts';
import { StoreWatch } from '../../src/worker/store-watch.ts';
import { asBlocked, TrialBench } from '../../src/worker/trials.ts';
import type { LetterHandling } from './operator.ts';
import { ModelConnection } from './model-amqp.ts';
import type { ModelStore } from './model-store.ts';
import type { ModelBroker, WorkerChannel } from './model-broker.ts';
import type { Machine } from './virtual-time.ts';
import { thingThat, type World } from './world.ts';

export interface WorkerSetting extends LetterHandling {
  readonly shards: number;
  readonly limits: SequencerLimits;
  readonly memoryBytes: number;
  readonly autoReplay: boolean;
  /** How long a gap is open before its events are fetched, in milliseconds; null: they are not. */
  readonly gapRepairAfterMs: number | null;
  /** How long a handler takes at most, in milliseconds; null: there is none. */
  readonly handlerMs: number | null;
  /** It is killed by what it does, and not by chance. */
  readonly dies: (worker: ModelWorker) => void;
  /** An event ends it; another one comes in its place. */
  readonly crashes: (worker: ModelWorker) => void;
}

/** How long an event loop may stand still, in milliseconds. */
const blockedMs = 1_500;

/** Until so long after the other faults a worker may die when it is about to replay. */
const lastDeathMs = 15_000;
const mostOverfull = 2.5;
/** How often a worker looks again for dead letters that are ready, about, in milliseconds. */
const searchMs = 30_000;

export class ModelWorker {
  readonly machine: Machine;
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #store: ModelStore;
  readonly #shards: readonly Shard[];
  readonly #watch: StoreWatch;
  readonly #autoReplay: AutoReplay | null;
  readonly #gapRepair: GapRepair | null;
  readonly #memory: WorkerMemory;
  readonly #channels: WorkerChannel[] = [];
  readonly #stopping = new AbortController();
  readonly #crashes: () => void;
  /** By shard: what its session has on record, as the thread knows it that looks whether the event loop is blocked. */
  readonly #notes = new Map<number, { readonly epoch: number; readonly note: string | null }>();

  constructor(world: World, broker: ModelBroker, store: ModelStore, name: string, setting: WorkerSetting) {
    this.#world = world;
    this.#broker = broker;
    this.#store = store;
    this.machine = world.machine(name);
    const { time } = this.machine;
    const seen = store.seenFrom(this.machine, () => this.#watch.lookNow());
    const memory = shareOut(setting.memoryBytes, setting.shards);
    this.#memory = memory;
    const bench = new TrialBench();
    const log = this.#log();
    const metrics = uncounted as Metrics;
    this.#crashes = () => setting.crashes(this);
    const record: Pick<Store, 'noteSession'> = {
      noteSession: (shard, epoch, note) => {
        this.#notes.set(shard, { epoch, note });
        return seen.noteSession(shard, epoch, note);
      },
    };
    this.#autoReplay = setting.autoReplay ? this.#newAutoReplay(store, seen, log, setting) : null;
    const fail = (error: unknown) => world.ledger.fail('a worker stopped because of a bug', String((error as Error).stack));
    this.#shards = Array.from({ length: setting.shards }, (_, shard) => {
      return new Shard({
        shard,
        queue: `s.shard.${shard}`,
        limits: { ...setting.limits, ...memory.limits },
        decode: (message) =>
          decodeMessage(message, { limits: defaultEventLimits, defaultEntityType: 'thing', unsequenced: setting.limits.unsequenced }),
        time,
        store: seen,
        processors: this.#processors(setting),
        maxStateBytes: 100_000,
        eventLog: false,
        memory,
        bench,
        record,
        isolation: null,
        inWork: new Set(),
        retry: { maxAttempts: 3, initialMs: 50, maxMs: 500, timeoutMs: 2_000 },
        autoReplay: this.#autoReplay,
        detector: new OrderingDetector(),
        metrics,
        shardMetrics: this.#counters,
        log,
        tracer: null,
        reply: () => {},
        openChannel: (events) => this.#open(shard, setting.limits.prefetch, events),
        nextEpoch: (signal) => this.#watch.nextEpoch(shard, signal),
        onHalt: async (cause, error) => (cause === 'bug' ? fail(error) : this.#halted(shard, error.message)),
      });
    });
    this.#gapRepair = setting.gapRepairAfterMs === null ? null : this.#newGapRepair(setting.gapRepairAfterMs, log);
    this.#watch = new StoreWatch({
      store: seen,
      record: store.recordSeenFrom(this.machine),
      intervalMs: 2_000,
      shards: this.#shards,
      onError: fail,
      metrics,
      log,
      time,
    });
  }

  async start(): Promise<void> {
    await patiently(() => this.#watch.begin(), { time: this.machine.time, signal: this.#stopping.signal }).catch(() => undefined);
    if (this.#stopping.signal.aborted) return;
    this.#watch.start();
    this.#gapRepair?.start();
    for (const shard of this.#shards) {
      if (shard.state === 'halted') {
        this.#world.sometimes('a worker began with halted shards');
        continue;
      }
      shard.start();
      this.#autoReplay?.search(shard.shard);
    }
  }

  /** Finishes what is in flight and leaves the rest to the next owner. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const noted = this.#watch.stop(5_000);
    this.#store.leaves(this.machine);
    const rest = [this.#autoReplay?.stop(5_000), this.#gapRepair?.stop(5_000)];
    await Promise.all([noted, ...this.#shards.map((shard) => shard.stop(5_000)), ...rest]);
  }

  kill(isByEvent = false): void {
    if (isByEvent) this.#world.ledger.endedByEvent(this.machine.name);
    this.machine.kill();
    this.severed();
  }

  /** All its connections break, or that of one channel. */
  severed(one?: number): void {
    if (one === undefined) this.#broker.sever(this.machine);
    for (const channel of one === undefined ? this.#channels : [this.#channels[one % this.#channels.length]]) channel?.sever();
  }

  async #halted(shard: number, why: string): Promise<void> {
    const { ledger } = this.#world;
    if (ledger.lossAtMs === null) ledger.fail('a shard halted although the store lost nothing', why);
    const isKnown = this.#store.isHalted;
    const isByVersion = why.includes('is at version');
    const isByStore = /another|no longer knows|knows nothing/.test(why);
    if (isKnown) this.#world.sometimes('a shard halted: it was on record');
    else if (isByVersion) this.#world.sometimes('a shard halted: the version of an entity was lower');
    else if (isByStore) this.#world.sometimes('a shard halted: the store was another one, or empty');
    else this.#world.sometimes('a shard halted: an epoch was lower, or came twice');
    await this.#store.halts(this.machine, shard, () => this.#watch.putOnRecord(shard, why));
  }

  #open(shard: number, prefetch: number, events: ShardChannelEvents): WorkerChannel {
    const channel = this.#broker.openChannel(this.machine, shard, prefetch, events);
    this.#channels.push(channel);
    return channel;
  }

  #newAutoReplay(store: ModelStore, seen: Store, log: Log, setting: WorkerSetting): AutoReplay {
    const { dies, shards: shardCount, config, pageSize } = setting;
    const [world, { deadLetters }] = [this.#world, this.#broker];
    let [looksAgain, isSearch] = [false, false];
    const lettersLeft = async () => {
      looksAgain = deadLetters.ready > 0;
      return deadLetters.ready;
    };
    const ended = (what: 'replayed' | 'nothing' | 'put_off') => {
      if (what === 'replayed') world.sometimes('a worker replayed by itself');
      if (what === 'replayed' && looksAgain && isSearch) world.sometimes('a worker looked again and found what was left');
      looksAgain = false;
    };
    const metrics = counting({ autoReplayEnded: ended }) as Metrics;
    const { time } = this.machine;
    const connect = () => new ModelConnection(this.#broker, this.machine);
    const record = store.recordSeenFrom(this.machine);
    // What a replay asks beside the worker's own business tells it nothing of the store.
    const asked = { ...seen, ...store.glanceFrom(this.machine) };
    const parts = { config, record, store: asked, lettersLeft, metrics, log, time, connect, pageSize };
    const replay = async (request: ReplayRequest) => {
      isSearch = request.entities.length === 0;
      if (!isSearch && world.has('kills') && world.healedForMs < lastDeathMs && world.chance.hits(0.3)) {
        dies(this);
        throw new UnavailableError('it was killed');
      }
      return replayOnce(request, parts);
    };
    return new AutoReplay({ ...parts, replay, takeTurn: turnTaker(record, time), shardCount, pace: { searchMs } });
  }

  /** From where every event is that is to be published. */
  #newGapRepair(afterMs: number, log: Log): GapRepair {
    const world = this.#world;
    const source: GapSource = async ({ entity: { entityId }, from, to }) => {
      await sleep(this.machine.time, world.pace.between(1, 300));
      if (world.strikes('failing sources', 0.2)) throw new UnavailableError('the source does not answer');
      const found = [...world.ledger.letters.values()].filter((letter) => {
        return letter.kind === 'event' && letter.entityId === entityId && letter.sequence >= from && letter.sequence <= to;
      });
      for (const letter of found) world.ledger.fetched(letter);
      return found.map(({ id, sequence, value }) => ({ id, sequence, type: 'Happened', data: { value } }));
    };
    const gapRepairEnded: Metrics['gapRepairEnded'] = (how) => {
      if (how === 'repaired') world.sometimes('missing events were fetched');
      if (how === 'failed') world.sometimes('a source of missing events failed');
    };
    const { time } = this.machine;
    return new GapRepair({ source, shards: this.#shards, afterMs, limits: defaultEventLimits, metrics: { gapRepairEnded }, log, time });
  }

  #processors({ handlerMs }: WorkerSetting): Processors {
    const aggregate = thingThat(() => this.#world.strikes('handler failures', 0.003));
    if (handlerMs === null) return createProcessors([aggregate]);
    const { ledger } = this.#world;
    const handle = async ({ id, entityId, sequence }: Pick<Event, 'id' | 'entityId' | 'sequence'>) => {
      ledger.handled(entityId, sequence ?? 0);
      const letter = ledger.letters.get(id);
      const poison = letter === undefined || this.#world.isHealed ? null : ledger.suffers(letter);
      if (poison !== null) return this.#suffer(poison);
      await sleep(this.machine.time, this.#world.pace.between(0, handlerMs));
      if (this.#world.strikes('handler failures', 0.01)) throw new PermanentError('it never works');
      if (this.#world.strikes('handler failures', 0.02)) throw new UnavailableError('it does not answer');
      if (this.#world.strikes('handler failures', 0.05)) throw new Error('it did not work');
      if (this.#world.strikes('handler failures', 0.01)) await new Promise(() => {});
      return sequence;
    };
    return createProcessors([aggregate, defineHandler({ type: 'thing', handle })]);
  }

  /** Where all that a shard has waits, it lets one delivery after the other in beyond its share, until a gap has ended. */
  #judgeMemory(): void {
    const { usedBytes, maxBytes } = this.#memory.deliveries;
    if (usedBytes > maxBytes * mostOverfull)
      this.#world.ledger.fail('deliveries take more memory than they may', `${usedBytes} of ${maxBytes} bytes, ${this.machine.name}`);
  }

  /** The event that it was given ends the process; so does the thread that looks whether its loop is blocked. */
  async #suffer(poison: 'kills' | 'blocks'): Promise<never> {
    this.#world.note(this.machine.name, poison);
    if (poison === 'kills') this.#crashes();
    else {
      this.machine.block();
      void this.#lastWords(this.#world.machine(`${this.machine.name}-watch`));
    }
    return new Promise(() => {});
  }

  async #lastWords(thread: Machine): Promise<void> {
    await sleep(thread.time, blockedMs);
    if (this.machine.state === 'dead') return;
    const seen = this.#store.seenFrom(thread);
    const words = [...this.#notes].map(([shard, { epoch, note }]) => note !== null && seen.noteSession(shard, epoch, asBlocked(note)));
    await Promise.allSettled(words);
    this.#crashes();
  }

  /** While it tries an event alone, and lives on: it takes its leave when its successor has long begun. */
  #cutOff({ shard }: { readonly shard: number }): void {
    const { schedule, chance } = this.#world;
    if (!this.#world.strikes('trials cut off', 0.4)) return;
    this.#world.sometimes('a session was cut off while it tried an event alone');
    schedule.after(chance.between(0, 300), () => this.severed(shard));
  }

  get #counters(): ShardMetrics {
    const { ledger } = this.#world;
    const counted: Partial<ShardMetrics> = {
      delivered: () => this.#judgeMemory(),
      ended: (outcome, count) => ledger.counted(outcome === 'skipped' ? 'skipped' : 'acknowledged', count),
      deadLettered: (_reason, count) => ledger.counted('rejected', count),
    };
    return counting(counted) as ShardMetrics;
  }

  #log(): Log {
    const say = (fields: unknown, message: string) => {
      this.#world.note(this.machine.name, message, fields);
      if (message.startsWith('an event that was on record')) this.#cutOff(fields as { readonly shard: number });
    };
    return { debug: () => {}, info: say, warn: say, error: say };
  }
}

const ignore = (): void => {};
/** The other metrics are read by nobody, and thousands of registries would cost more than the rest of it. */
const uncounted: unknown = new Proxy({ totals: {} }, { get: (target, name) => Reflect.get(target, name) ?? ignore });

/** Some are looked at. */
function counting(counted: object): unknown {
  return new Proxy(uncounted as object, { get: (target, name) => Reflect.get(counted, name) ?? Reflect.get(target, name) });
}
