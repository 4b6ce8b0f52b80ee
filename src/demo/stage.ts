/**
 * What the demo needs and owns: services, a stream of its own, worker processes. Everything that is made here is taken
 * down by `remove`, in reverse, whatever happened meanwhile; services that were given stay and are left as they were.
 */
import { type ChannelModel, connect } from 'amqplib';
import { type Services, startServices } from '../../deploy/local/services.ts';
import { variableNames } from '../config/variables.ts';
import { UnavailableError } from '../errors.ts';
import { planTopology, type TopologyPlan } from '../rabbitmq/topology-plan.ts';
import { applyTopology } from '../rabbitmq/topology.ts';
import { createRedisStore } from '../stores/redis/redis-store.ts';
import type { Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { removeKeys, removeTopology } from './demo-queues.ts';
import { DemoWorker } from './demo-worker.ts';
import { moduleUrl } from './processors.ts';

export interface StageOptions {
  /** Where AMQP_URL and REDIS_URL may be given; other settings of ours in it have no effect on the demo. */
  readonly env: NodeJS.ProcessEnv;
  readonly shards: number;
  /** Variables of the workers, beside those that say where everything is. */
  readonly workerVariables: Readonly<Record<string, string>>;
  /** Receives one line for each step of bringing services up that takes time. */
  readonly log: (line: string) => void;
  readonly time: Time;
}

export class Stage {
  readonly stream: string;
  readonly plan: TopologyPlan;
  readonly services: Services;
  readonly connection: ChannelModel;
  readonly store: Store;
  readonly #options: StageOptions;
  readonly #workers: DemoWorker[] = [];

  private constructor(options: StageOptions, services: Services, connection: ChannelModel) {
    this.#options = options;
    this.stream = `inorder-demo-${options.time.uuid().slice(0, 6)}`;
    this.services = services;
    this.connection = connection;
    this.plan = planTopology({ stream: this.stream, shards: options.shards, queueType: 'quorum', exchangeType: 'x-consistent-hash' });
    this.store = createRedisStore({ url: services.redisUrl, stream: this.stream, idempotencyTtlSeconds: 3_600, time: options.time });
  }

  /** @throws UnavailableError when there is no way to a broker and a store here. */
  static async set(options: StageOptions): Promise<Stage> {
    const services = await startServices({ env: options.env, log: options.log });
    try {
      const connection = await connect(services.amqpUrl, { noDelay: true });
      // Whoever uses the connection is told as well; without a listener the process would end.
      connection.on('error', () => undefined);
      return new Stage(options, services, connection);
    } catch (error) {
      await services.stop();
      throw new UnavailableError(`RabbitMQ does not take the connection: ${(error as Error).message}`, { cause: error });
    }
  }

  async declareTopology(): Promise<void> {
    await applyTopology({ ready: async () => this.connection, time: this.#options.time }, this.plan);
  }

  /** A worker process; it is not ready yet. */
  async startWorker(name: string): Promise<DemoWorker> {
    const { env, shards, workerVariables, time } = this.#options;
    const ours = new Set<string>(variableNames.flatMap((variable) => [variable, `${variable}_FILE`]));
    const inherited = Object.fromEntries(Object.entries(env).filter(([variable]) => !ours.has(variable)));
    const places = { AMQP_URL: this.services.amqpUrl, REDIS_URL: this.services.redisUrl, STREAM: this.stream, SHARDS: String(shards) };
    const variables = { ...inherited, ...places, PROCESSOR: moduleUrl, LOG_LEVEL: 'warn', ...workerVariables };
    const worker = await DemoWorker.start(name, variables, time);
    this.#workers.push(worker);
    return worker;
  }

  async stopWorkers(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }

  /** Never throws: one thing that cannot be removed must not keep the others. */
  async remove(): Promise<void> {
    await Promise.allSettled(this.#workers.map((worker) => worker.remove()));
    await removeTopology(this.connection, this.plan).catch(() => undefined);
    await removeKeys(this.services.redisUrl, this.stream, this.#options.time).catch(() => undefined);
    await this.store.close().catch(() => undefined);
    await this.connection.close().catch(() => undefined);
    await this.services.stop().catch(() => undefined);
  }
}
