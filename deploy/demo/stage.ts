/**
 * What the demo needs and owns: services, a stream of its own, worker processes. Everything that is made here is taken
 * down by `remove`, in reverse, whatever happened meanwhile; services that were given stay and are left as they were.
 */
import { type ChannelModel, connect } from 'amqplib';
import { variableNames } from '../../src/config/variables.ts';
import { UnavailableError } from '../../src/errors.ts';
import { streamDepths } from '../../src/rabbitmq/queue-depths.ts';
import { planTopology } from '../../src/rabbitmq/topology-plan.ts';
import { applyTopology } from '../../src/rabbitmq/topology.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { systemTime } from '../../src/time.ts';
import { type Services, startServices } from '../local/services.ts';
import { removeStream } from '../local/stream-removal.ts';
import { processorUrl } from './faults.ts';
import type { Depths } from './ledger.ts';
import { DemoWorker } from './workers.ts';

export interface StageOptions {
  /** Where AMQP_URL and REDIS_URL may be given; other settings of ours in it have no effect on the demo. */
  readonly env: NodeJS.ProcessEnv;
  /** Receives one line for each step of bringing services up that takes time. */
  readonly log: (line: string) => void;
}

export const shards = 8;
/** Many times what a shuffled event needs to arrive on a slow machine: only what was lost may become a gap. */
export const gapTimeoutMs = 8_000;
/** Of the workers, beside those that say where everything is. */
const workerVariables = { GAP_TIMEOUT_MS: String(gapTimeoutMs), RETRY_MAX_ATTEMPTS: '3', RETRY_INITIAL_MS: '50', PREFETCH: '1000' };

export class Stage {
  readonly stream: string;
  readonly services: Services;
  readonly connection: ChannelModel;
  readonly store: Store;
  readonly #env: NodeJS.ProcessEnv;
  readonly #workers: DemoWorker[] = [];

  private constructor(env: NodeJS.ProcessEnv, services: Services, connection: ChannelModel) {
    this.#env = env;
    this.stream = `inorder-demo-${systemTime.uuid().slice(0, 6)}`;
    this.services = services;
    this.connection = connection;
    this.store = createRedisStore({ url: services.redisUrl, stream: this.stream, idempotencyTtlSeconds: 3_600, time: systemTime });
  }

  /** @throws UnavailableError when there is no way to a broker and a store here. */
  static async set({ env, log }: StageOptions): Promise<Stage> {
    const services = await startServices({ env, log });
    try {
      const connection = await connect(services.amqpUrl, { noDelay: true });
      // The failed call reports it as well; without a listener the process would end.
      connection.on('error', () => undefined);
      return new Stage(env, services, connection);
    } catch (error) {
      await services.stop();
      throw new UnavailableError(`RabbitMQ does not take the connection: ${(error as Error).message}`, { cause: error });
    }
  }

  async declareTopology(): Promise<void> {
    const plan = planTopology({ stream: this.stream, shards, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
    await applyTopology({ ready: async () => this.connection, time: systemTime }, plan);
  }

  async depths(): Promise<Depths> {
    const depths = await streamDepths(this.connection, { stream: this.stream, shards }, systemTime);
    const total = depths.shards.reduce((sum, { ready }) => sum + (ready ?? 0), 0);
    return { shards: total, deadLetters: depths.deadLetters.ready ?? 0, unrouted: depths.unrouted.ready ?? 0 };
  }

  /** A worker process; it is not ready yet. */
  async startWorker(name: string): Promise<DemoWorker> {
    const ours = new Set<string>(variableNames.flatMap((variable) => [variable, `${variable}_FILE`]));
    const inherited = Object.fromEntries(Object.entries(this.#env).filter(([variable]) => !ours.has(variable)));
    const places = { AMQP_URL: this.services.amqpUrl, REDIS_URL: this.services.redisUrl, STREAM: this.stream, SHARDS: String(shards) };
    const variables = { ...inherited, ...places, PROCESSOR: processorUrl, LOG_LEVEL: 'warn', ...workerVariables };
    const worker = await DemoWorker.start(name, variables);
    this.#workers.push(worker);
    return worker;
  }

  async stopWorkers(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }

  /** Never throws: one thing that cannot be removed must not keep the others. */
  async remove(): Promise<void> {
    await Promise.allSettled(this.#workers.map((worker) => worker.remove()));
    await removeStream(this.services, this.stream, shards).catch(() => undefined);
    await this.store.close().catch(() => undefined);
    await this.connection.close().catch(() => undefined);
    await this.services.stop().catch(() => undefined);
  }
}
