/**
 * A worker: the shards of one process, with one connection to the broker, one to the store, and a second one to the broker for
 * what it publishes (replies, the record of the store). It checks broker and store before it consumes anything, survives the loss
 * of either, and stops by finishing what is in flight and closing its channels: the standby continues where it ended.
 */
import type { Tracer } from '@opentelemetry/api';
import type { Processor } from '../aggregates/definition.ts';
import { createProcessors, type Processors } from '../aggregates/processors.ts';
import { type Config, connectionName, decodingOf } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import { decodeMessage } from '../events/decode.ts';
import type { Event } from '../events/event.ts';
import { createLog, type Log } from '../observability/log.ts';
import { createMetrics, type Metrics, type ShardState } from '../observability/metrics.ts';
import { registeredTracer } from '../observability/tracing.ts';
import { violationsStatus, type WorkerStatus } from '../observability/worker-status.ts';
import { OrderingDetector } from '../detection/detector.ts';
import { defaultSequencerLimits } from '../ordering/facts.ts';
import { createShardChannel } from '../rabbitmq/amqp-shard-channel.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { consumersOf, readyIn, QueueWatch } from '../rabbitmq/queue-depths.ts';
import { createReplier } from '../rabbitmq/replies.ts';
import { StreamRecordKeeper } from '../rabbitmq/stream-record.ts';
import { deadLetterQueueName, shardQueueName } from '../rabbitmq/topology-plan.ts';
import { haltText, type Store } from '../stores/store.ts';
import { openStore } from '../stores/open-store.ts';
import { sleep, systemTime, type Time } from '../time.ts';
import { BlockWatch, blockedAfterMs } from './block-watch.ts';
import { type AutoReplay, createAutoReplay } from './auto-replay.ts';
import { GapRepair } from './gap-repair.ts';
import type { GapSource } from '../stores/event-store.ts';
import { Isolation } from './isolation.ts';
import type { ProcessorChoice } from './operator-modules.ts';
import { idempotencyKeyOf } from './processing.ts';
import { shareOut, type WorkerMemory } from './memory.ts';
import { Shard } from './shard.ts';
import { startShards, checkLayout, checkSurroundings, prepareTopology, recordLayout, untilAvailable } from './start.ts';
import { StoreWatch } from './store-watch.ts';
import { TrialBench } from './trials.ts';
import { Watchdog } from './watchdog.ts';

export interface WorkerOptions {
  /** Aggregates and handlers, at most one of each per entity type. */
  readonly processors: Processors | readonly Processor[];
  /** Default: `loadConfig(process.env)`. Its `processing.processor` is ignored. */
  readonly config?: Config;
  /** Where missing events are fetched from. Default: nowhere; `config.gapRepair.source` is ignored. */
  readonly gapSource?: GapSource | null;
  /**
   * Names the processors once more, to run them in a thread that may be ended. Default: they run in this one;
   * `config.processing.isolation` is ignored.
   */
  readonly isolation?: ProcessorChoice | null;
  /** Default: JSON lines on stdout at the configured level. */
  readonly log?: Log;
  /** Default: a separate registry, with exemplars if there is a tracer; read it with `render()`. */
  readonly metrics?: Metrics;
  /** Default: the system's clock. */
  readonly time?: Time;
}

export interface Worker {
  /** Resolves when every shard is consuming, a standby, or halted (see `notReady`). Rejects with `ConfigError` when it must not start. */
  start(): Promise<void>;
  /** Finishes what is in flight, at most for SHUTDOWN_TIMEOUT_MS. Safe to call twice. */
  stop(): Promise<void>;
  status(): WorkerStatus;
  /** Why it is not ready; empty when it is. */
  notReady(): readonly string[];
  /** The events whose handlers are running, as `type:id:sequence`: what an error may come from that nobody caught. At most ten. */
  inWork(): readonly string[];
  /** Settles when the worker has stopped: with null if that was asked for, else with the error. */
  readonly done: Promise<Error | null>;
}

const storeWatchMs = 2_000;
const watchdogMs = 30_000;

/** Throws `ConfigError` when configuration or processors are not usable. */
export function createWorker(options: WorkerOptions): Worker {
  const config = options.config ?? loadConfig(process.env);
  const { processors, time = systemTime } = options;
  const tracer = registeredTracer();
  return new ShardedWorker({
    config,
    processors: 'forType' in processors ? processors : createProcessors(processors),
    log: options.log ?? createLog({ level: config.logLevel, service: config.serviceName, time }),
    metrics: options.metrics ?? createMetrics(config.serviceName, { exemplars: tracer !== null }),
    tracer,
    gapSource: options.gapSource ?? null,
    isolation: options.isolation ?? null,
    time,
  });
}

interface Parts extends Required<Omit<WorkerOptions, 'processors'>> {
  readonly processors: Processors;
  readonly tracer: Tracer | null;
}

class ShardedWorker implements Worker {
  readonly done: Promise<Error | null>;
  readonly #options: Parts;
  readonly #store: Store;
  readonly #connection: ReturnType<typeof createConnection>;
  readonly #memory: WorkerMemory;
  /** It counts the affected entities by their names, which the memory budget does not cover: a megabyte of them, and no more. */
  readonly #detector = new OrderingDetector({ maxEntities: 10_000 });
  readonly #bench = new TrialBench();
  readonly #inWork = new Set<Event>();
  readonly #blockWatch: BlockWatch;
  readonly #isolation: Isolation | null;
  readonly #watch: StoreWatch;
  readonly #watchdog: Watchdog;
  readonly #queues: QueueWatch;
  readonly #stopping = new AbortController();
  /** Separate, because a broker short of memory reads no acknowledgements from a connection that publishes. */
  readonly #publishing: ReturnType<typeof createConnection>;
  readonly #replier: ReturnType<typeof createReplier> | null;
  readonly #autoReplay: AutoReplay | null;
  readonly #shards: readonly Shard[];
  readonly #gapRepair: GapRepair | null;
  #settle: (error: Error | null) => void = () => {};
  #state: WorkerStatus['state'] = 'starting';
  #stopped: Promise<void> | null = null;

  constructor(options: Parts) {
    this.#options = options;
    this.done = new Promise((resolve) => {
      this.#settle = resolve;
    });
    const { config, log, metrics, time } = options;
    this.#memory = shareOut(config.limits.memoryBudgetBytes, config.broker.workerShards.length);
    this.#store = openStore(config, { role: 'worker', log, time, onReconnect: () => this.#watch.lookNow() });
    this.#blockWatch = new BlockWatch({ config, log, time });
    const isolated = { blockedAfterMs: blockedAfterMs(config), log, time, fail: (error: unknown) => this.#fail(error) };
    this.#isolation = options.isolation === null ? null : new Isolation({ ...isolated, choice: options.isolation });
    this.#connection = createConnection({
      ...config.broker,
      name: connectionName('worker', config),
      log,
      time,
      onReconnected: () => metrics.reconnected(),
    });
    this.#publishing = createConnection({ ...config.broker, name: connectionName('worker-publishing', config), log, time });
    this.#replier = options.processors.hasHandlers
      ? createReplier({ connection: this.#publishing, allowed: config.processing.replyQueues, metrics, log })
      : null;
    const deadLetters = deadLetterQueueName(config.broker.stream);
    const lettersLeft = async () => (await readyIn(this.#connection, [deadLetters])).get(deadLetters) ?? 0;
    const record = new StreamRecordKeeper({ source: this.#connection, publishing: this.#publishing, stream: config.broker.stream });
    const replayed = { config, store: this.#store, record, lettersLeft, metrics, log, time };
    this.#autoReplay = config.processing.autoReplay ? createAutoReplay(replayed) : null;
    this.#shards = config.broker.workerShards.map((shard) => this.#makeShard(shard));
    this.#watch = new StoreWatch({
      store: this.#store,
      record,
      shards: this.#shards,
      intervalMs: storeWatchMs,
      metrics,
      log,
      time,
      onError: (error) => this.#fail(error),
    });
    this.#gapRepair = options.gapSource === null ? null : this.#makeGapRepair(options.gapSource);
    this.#watchdog = new Watchdog({
      shards: this.#shards,
      readyIn: (queues) => readyIn(this.#connection, queues),
      intervalMs: watchdogMs,
      log,
      time,
      onError: (error) => this.#fail(error),
    });
    metrics.readShardsFrom(() => this.#shards.map((shard) => shard.reading()));
    metrics.configured({ gapTimeoutSeconds: config.ordering.gapTimeoutMs / 1_000, prefetch: config.broker.prefetch });
    this.#queues = new QueueWatch({ config, source: this.#connection, time });
    metrics.readQueuesFrom(() => this.#queues.reading());
  }

  async start(): Promise<void> {
    try {
      const { config, log, time } = this.#options;
      const start = { config, log, time, signal: this.#stopping.signal };
      this.#blockWatch.start();
      await checkSurroundings(this.#store, start);
      await checkLayout(this.#store, start);
      await prepareTopology(this.#connection, this.#publishing, start);
      await untilAvailable('the store or the broker is not there yet', () => this.#watch.begin(), start);
      // Another store's shards are halted: the record would be put into it.
      if (!this.#watch.halts.some(({ shard }) => shard === null)) await recordLayout(this.#store, start);
      this.#watch.start();
      this.#watchdog.start();
      this.#queues.start();
      this.#gapRepair?.start();
      await startShards({
        shards: config.broker.workerShards,
        share: config.broker.share,
        start: (shard) => this.#startShard(shard),
        consumersOf: (shards) =>
          consumersOf(
            this.#connection,
            shards.map((shard) => shardQueueName(config.broker.stream, shard)),
          ),
        signal: this.#stopping.signal,
        time,
      });
      await this.#untilReady();
      if (this.#state === 'starting') this.#state = 'running';
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop(null);
    return this.#stopped;
  }

  status(): WorkerStatus {
    const { config } = this.#options;
    return {
      service: config.serviceName,
      stream: config.broker.stream,
      state: this.#state,
      not_ready: this.notReady(),
      shards: this.#shards.map((shard) => shard.status()),
      violations: violationsStatus(this.#detector.statistics()),
    };
  }

  inWork(): readonly string[] {
    return [...this.#inWork].slice(0, 10).map(idempotencyKeyOf);
  }

  notReady(): readonly string[] {
    const inState = (wanted: ShardState) =>
      this.#shards
        .filter(({ state }) => state === wanted)
        .map(({ shard }) => shard)
        .join(', ');
    const [closed, paused] = [inState('closed'), inState('paused')];
    return [
      ...this.#watch.halts.map(haltText),
      ...(this.#state === 'stopping' || this.#state === 'stopped' ? ['stopping'] : []),
      ...(this.#watch.refusal === null ? [] : [`the store takes no writes: ${this.#watch.refusal}`]),
      ...(this.#connection.connected ? [] : ['the broker is not connected']),
      ...(closed === '' ? [] : [`no channel for shard ${closed}`]),
      ...(paused === '' ? [] : [`the store does not serve shard ${paused}`]),
    ];
  }

  #startShard(number: number): void {
    const shard = this.#shards.find((one) => one.shard === number);
    if (shard?.state === 'halted') return;
    shard?.start();
    this.#autoReplay?.search(number);
  }

  #makeGapRepair(source: GapSource): GapRepair {
    const { config, metrics, log, time } = this.#options;
    return new GapRepair({
      source,
      shards: this.#shards,
      afterMs: config.gapRepair.afterMs,
      limits: config.limits,
      metrics,
      log,
      time,
    });
  }

  #makeShard(shard: number): Shard {
    const { config, processors, log, metrics, tracer, time } = this.#options;
    const { broker, ordering, processing, limits } = config;
    const [queue, decoding] = [shardQueueName(broker.stream, shard), decodingOf(config)];
    return new Shard({
      shard,
      queue,
      limits: {
        ...defaultSequencerLimits,
        ...ordering,
        ...this.#memory.limits,
        prefetch: broker.prefetch,
        gapRereadMs: Math.min(5_000, Math.ceil(ordering.gapTimeoutMs / 4)),
      },
      decode: (message) => decodeMessage(message, decoding),
      time,
      store: this.#store,
      record: this.#blockWatch.sees(this.#store),
      processors,
      isolation: this.#isolation,
      inWork: this.#inWork,
      maxStateBytes: limits.maxStateBytes,
      eventLog: config.store.eventLog,
      memory: this.#memory,
      bench: this.#bench,
      retry: {
        maxAttempts: processing.retryMaxAttempts,
        initialMs: processing.retryInitialMs,
        maxMs: processing.retryMaxMs,
        timeoutMs: processing.handlerTimeoutMs,
      },
      autoReplay: this.#autoReplay,
      detector: this.#detector,
      metrics,
      shardMetrics: metrics.shard(shard),
      log,
      tracer,
      reply: (replyTo, correlationId, result) => this.#replier?.send(replyTo, correlationId, result),
      openChannel: (events) => createShardChannel({ connection: this.#connection, queue, prefetch: broker.prefetch, shard, events, log }),
      nextEpoch: (signal) => this.#watch.nextEpoch(shard, signal),
      onHalt: (cause, error) => this.#shardHalted(shard, cause, error),
    });
  }

  async #untilReady(): Promise<void> {
    while (this.notReady().length > 0 && !this.#stopping.signal.aborted && this.#watch.halts.length === 0) {
      await sleep(this.#options.time, 20, this.#stopping.signal);
    }
  }

  async #shardHalted(shard: number, cause: 'store-went-backwards' | 'bug', error: Error): Promise<void> {
    const { log, metrics } = this.#options;
    metrics.shard(shard).halted(cause === 'bug' ? 'bug' : 'store_went_backwards');
    if (cause === 'bug') {
      log.error({ shard, error }, 'a shard stopped because of a bug: the process ends, a standby takes over');
      return this.#fail(error);
    }
    log.error(
      { shard, cause: messageOf(error) },
      'the store went backwards: the shard is halted, here and in every other worker, until `inorder shards resume`',
    );
    await this.#watch.putOnRecord(shard, error.message);
  }

  #fail(error: unknown): void {
    const cause = error instanceof Error ? error : new Error(messageOf(error));
    this.#stopped ??= this.#stop(cause);
  }

  async #stop(cause: Error | null): Promise<void> {
    this.#state = 'stopping';
    this.#stopping.abort();
    this.#watchdog.stop();
    this.#queues.stop();
    // Nothing is lost if it does not finish in time: closing the channel gives its deliveries to the next consumer.
    const { shutdownTimeoutMs } = this.#options.config;
    await Promise.allSettled([
      this.#watch.stop(this.#connection.connected ? shutdownTimeoutMs : 0),
      ...this.#shards.map((shard) => shard.stop(shutdownTimeoutMs)),
      this.#autoReplay?.stop(shutdownTimeoutMs),
      this.#gapRepair?.stop(shutdownTimeoutMs),
    ]);
    await Promise.allSettled([this.#isolation?.stop(), this.#blockWatch.stop()]);
    await this.#replier?.close();
    await Promise.allSettled([this.#connection.close(), this.#publishing.close(), this.#store.close()]);
    this.#state = 'stopped';
    this.#settle(cause);
  }
}
