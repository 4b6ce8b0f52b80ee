/** A worker on a machine of the simulation: the shipped shards and the watch over the store, on the models of broker and store. */
import { defineAggregate, defineHandler } from '../../src/aggregates/define.ts';
import { createProcessors, type Processors } from '../../src/aggregates/processors.ts';
import { OrderingDetector } from '../../src/detection/detector.ts';
import { PermanentError, UnavailableError } from '../../src/errors.ts';
import { decodeMessage } from '../../src/events/decode.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import type { Log } from '../../src/observability/log.ts';
import type { Metrics, ShardMetrics } from '../../src/observability/metrics.ts';
import type { SequencerLimits } from '../../src/ordering/limits.ts';
import type { ShardChannelEvents } from '../../src/rabbitmq/shard-channel.ts';
import { patiently, sleep } from '../../src/time.ts';
import type { Store } from '../../src/stores/store.ts';
import { AutoReplay, type ReplayRequest } from '../../src/worker/auto-replay.ts';
import { shareOut } from '../../src/worker/memory.ts';
import { Shard } from '../../src/worker/shard.ts';
import { StoreWatch } from '../../src/worker/store-watch.ts';
import { lackedPredecessor, Replays } from './operator.ts';
import type { ModelStore } from './model-store.ts';
import type { ModelBroker, WorkerChannel } from './model-broker.ts';
import type { Machine } from './virtual-time.ts';
import type { World } from './world.ts';

export interface WorkerSetting {
  readonly shards: number;
  readonly limits: SequencerLimits;
  readonly memoryBytes: number;
  readonly autoReplay: boolean;
  /** How long a handler takes at most, in milliseconds; null: there is none. */
  readonly handlerMs: number | null;
}

export class ModelWorker {
  readonly machine: Machine;
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #shards: readonly Shard[];
  readonly #watch: StoreWatch;
  readonly #autoReplay: AutoReplay | null;
  readonly #channels: WorkerChannel[] = [];
  readonly #stopping = new AbortController();

  constructor(world: World, broker: ModelBroker, store: ModelStore, name: string, setting: WorkerSetting) {
    this.#world = world;
    this.#broker = broker;
    this.machine = world.machine(name);
    const { time } = this.machine;
    const seen = store.seenFrom(this.machine);
    const memory = shareOut(setting.memoryBytes, setting.shards);
    const log = this.#log();
    const metrics = uncounted as Metrics;
    this.#autoReplay = setting.autoReplay ? this.#newAutoReplay(store, seen, log) : null;
    const fail = (error: unknown) => world.ledger.fail('a worker stopped because of a bug', String((error as Error).stack));
    this.#shards = Array.from({ length: setting.shards }, (_, shard) => {
      return new Shard({
        shard,
        queue: `s.shard.${shard}`,
        limits: { ...setting.limits, ...memory.limits },
        decode: (message) => decodeMessage(message, { limits: defaultEventLimits, defaultEntityType: 'thing', unsequenced: 'reject' }),
        time,
        store: seen,
        processors: this.#processors(setting),
        maxStateBytes: 100_000,
        eventLog: false,
        memory,
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
        onHalt: async (cause, error) => {
          if (cause === 'bug') return fail(error);
          world.ledger.fail('a shard halted although the store lost nothing', error.message);
        },
      });
    });
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
    for (const shard of this.#shards) {
      shard.start();
      this.#autoReplay?.search(shard.shard);
    }
  }

  /** Finishes what is in flight and leaves the rest to the next owner. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#watch.stop();
    await Promise.all([...this.#shards.map((shard) => shard.stop(5_000)), this.#autoReplay?.stop(5_000)]);
  }

  kill(): void {
    this.machine.kill();
    this.severed();
  }

  /** All its connections break, or one of them. */
  severed(one?: number): void {
    for (const channel of one === undefined ? this.#channels : [this.#channels[one % this.#channels.length]]) channel?.sever();
  }

  #open(shard: number, prefetch: number, events: ShardChannelEvents): WorkerChannel {
    const channel = this.#broker.openChannel(this.machine, shard, prefetch, events);
    this.#channels.push(channel);
    return channel;
  }

  #newAutoReplay(store: ModelStore, seen: Store, log: Log): AutoReplay {
    const replays = new Replays(this.#world, this.#broker, store, this.machine);
    const replay = async ({ entities, shards }: ReplayRequest) => {
      const asked = new Set(entities.map(({ entityId }) => entityId));
      const found = await replays.run(({ letter }) => shards.has(letter.shard) || asked.has(letter.entityId), lackedPredecessor);
      const replayed = found.reduce((sum, { letters }) => sum + letters.length, 0);
      if (replayed > 0) this.#world.sometimes('a worker replayed by itself');
      return { entities: found, replayed, blocked: 0, complete: true };
    };
    return new AutoReplay({ store: seen, replay, metrics: uncounted as Metrics, log, time: this.machine.time });
  }

  #processors({ handlerMs }: WorkerSetting): Processors {
    const aggregate = defineAggregate({
      type: 'thing',
      initialState: { values: [] as number[] },
      evolve: { '*': ({ values }, { data }) => ({ values: [...values, (data as { value: number }).value] }) },
    });
    if (handlerMs === null) return createProcessors([aggregate]);
    const { ledger } = this.#world;
    const handle = async ({ entityId, sequence }: { readonly entityId: string; readonly sequence: number | null }) => {
      ledger.handled(entityId, sequence ?? 0);
      await sleep(this.machine.time, this.#world.pace.between(0, handlerMs));
      if (this.#world.strikes('handler failures', 0.01)) throw new PermanentError('it never works');
      if (this.#world.strikes('handler failures', 0.02)) throw new UnavailableError('it does not answer');
      if (this.#world.strikes('handler failures', 0.05)) throw new Error('it did not work');
      if (this.#world.strikes('handler failures', 0.01)) await new Promise(() => {});
      return sequence;
    };
    return createProcessors([aggregate, defineHandler({ type: 'thing', handle })]);
  }

  get #counters(): ShardMetrics {
    const { ledger } = this.#world;
    const counted: Partial<ShardMetrics> = {
      ended: (_outcome, count) => ledger.counted('acknowledged', count),
      deadLettered: (_reason, count) => ledger.counted('rejected', count),
    };
    return new Proxy(uncounted as ShardMetrics, { get: (target, name) => Reflect.get(counted, name) ?? Reflect.get(target, name) });
  }

  #log(): Log {
    const say = (fields: unknown, message: string) => this.#world.note(this.machine.name, message, fields);
    return { debug: () => {}, info: say, warn: say, error: say };
  }
}

const ignore = (): void => {};
/** The other metrics are read by nobody, and thousands of registries would cost more than the rest of it. */
const uncounted: unknown = new Proxy({ totals: {} }, { get: (target, name) => Reflect.get(target, name) ?? ignore });
