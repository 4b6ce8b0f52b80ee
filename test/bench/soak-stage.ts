/**
 * What a soak runs on: a broker and a store, two workers that are probed, each with half of the shards and a way of its own to both
 * that can be cut, and what all of them hold and have done.
 */
import amqp from 'amqplib';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeStream } from '../../deploy/local/stream-removal.ts';
import { deadLetterQueueName, shardQueueNames, unroutedQueueName } from '../../src/rabbitmq/topology-plan.ts';
import { Redis } from 'ioredis';
import { commandLine, moduleUrl } from '../support/checkout.ts';
import type { Holdings } from '../support/process-probe.ts';
import { type Owner, uniqueStream, useServices, waitFor, type TestServices } from '../support/services.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const shards = 8;
const workers = 2;
const askAgainMs = 20_000;
const mib = 2 ** 20;

/** Counted by the workers since they started, or how it is now. */
export interface Figures {
  readonly ended: number;
  readonly duplicates: number;
  readonly deadLettered: number;
  readonly reconnects: number;
  readonly openGaps: number;
  readonly held: number;
}

/** In MiB; null where nobody says it. */
export interface ServicesMemory {
  readonly broker: number | null;
  readonly store: number;
}

/** A worker that has the probe in it. */
class ProbedWorker {
  readonly worker: WorkerProcess;
  readonly proxies: Readonly<Record<'broker' | 'store', TcpProxy>>;
  readonly #file: string;

  constructor(worker: WorkerProcess, proxies: ProbedWorker['proxies'], file: string) {
    this.worker = worker;
    this.proxies = proxies;
    this.#file = file;
  }

  async holdings(): Promise<Holdings> {
    const lines = () => (existsSync(this.#file) ? readFileSync(this.#file, 'utf8').split('\n').slice(0, -1) : []);
    const before = lines().length;
    let ended = '';
    void this.worker.exited.then(
      ({ code, signal }) => (ended = `worker ${this.worker.pid} ended with ${code ?? signal}: ${this.worker.output}`),
    );
    this.worker.signal('SIGWINCH');
    let askedMs = performance.now();
    const answer = await waitFor(
      () => {
        if (ended !== '') throw new Error(ended);
        if (performance.now() - askedMs > askAgainMs) {
          this.worker.signal('SIGWINCH');
          askedMs = performance.now();
        }
        return lines()[before];
      },
      { what: `worker ${this.worker.pid} to say what it holds` },
    );
    const holdings = JSON.parse(answer) as Holdings & { readonly error?: string };
    if (holdings.error !== undefined) throw new Error(`worker ${this.worker.pid} cannot say what it holds: ${holdings.error}`);
    return holdings;
  }
}

export class Stage {
  readonly stream = uniqueStream('soak');
  readonly amqpUrl: string;
  readonly redisUrl: string;
  readonly #services: TestServices;
  readonly #redis: Redis;
  readonly #connection: amqp.ChannelModel;
  readonly #workers: ProbedWorker[] = [];
  #isEnding = false;

  private constructor(services: TestServices, connection: amqp.ChannelModel) {
    this.#services = services;
    this.amqpUrl = services.amqpUrl;
    this.redisUrl = services.redisUrl;
    this.#connection = connection;
    this.#redis = new Redis(services.redisUrl);
  }

  /**
   * @param more PROCESSOR of the workers, and MEMORY_BUDGET_MIB: so little that their caches are full soon.
   * @param preload Modules that are loaded into the workers beside the probe.
   */
  static async start(
    owner: Owner,
    say: (line: string) => void,
    more: Readonly<Record<string, string>>,
    preload: readonly string[],
  ): Promise<Stage> {
    const services = await useServices();
    const connection = await amqp.connect(services.amqpUrl);
    const stage = new Stage(services, connection);
    const directory = mkdtempSync(join(tmpdir(), 'inorder-soak-'));
    owner.after(async () => {
      stage.#isEnding = true;
      rmSync(directory, { recursive: true, force: true });
      await connection.close();
      await stage.#redis.quit();
      await removeStream(services, stage.stream, shards);
    });
    const probe = ['--import', moduleUrl('test/support/process-probe.ts').href, ...preload.flatMap((file) => ['--import', file])];
    const launcher = { program: [process.execPath, ...commandLine.slice(0, -1), ...probe, commandLine.at(-1)!] as const };
    for (let ordinal = 0; ordinal < workers; ordinal++) {
      const proxies = { broker: await TcpProxy.start(services.amqpUrl), store: await TcpProxy.start(services.redisUrl) };
      owner.after(() => Object.values(proxies).forEach((proxy) => proxy.stop()));
      const each = shards / workers;
      const file = join(directory, `worker-${ordinal}`);
      const variables = {
        AMQP_URL: proxies.broker.through(services.amqpUrl),
        REDIS_URL: proxies.store.through(services.redisUrl),
        STREAM: stage.stream,
        SHARDS: String(shards),
        WORKER_SHARDS: `${ordinal * each}-${(ordinal + 1) * each - 1}`,
        ...more,
        // Longer than a backlog lasts: what is missing may lie behind it.
        GAP_TIMEOUT_MS: '600000',
        IDEMPOTENCY_TTL_SECONDS: '300',
        // The probe blocks the event loop while it counts, on a busy machine for long.
        HANDLER_TIMEOUT_MS: '240000',
        LOG_LEVEL: 'warn',
        PROBE_FILE: file,
      };
      const worker = await WorkerProcess.ready(owner, variables, launcher);
      void worker.exited.then(({ code, signal }) => {
        if (!stage.#isEnding && signal !== 'SIGKILL') say(`BROKEN: worker ${ordinal} ended with ${code ?? signal}:\n${worker.output}`);
      });
      stage.#workers.push(new ProbedWorker(worker, proxies, file));
    }
    return stage;
  }

  get workers(): readonly WorkerProcess[] {
    return this.#workers.map(({ worker }) => worker);
  }

  /** Cuts a worker off for a moment: it has to connect again. */
  cut(turn: number): string {
    const ordinal = turn % workers;
    const side = Math.floor(turn / workers) % 3 === 2 ? 'store' : 'broker';
    this.#workers[ordinal]!.proxies[side].cut();
    return `worker ${ordinal} loses its connections to the ${side}`;
  }

  /** Of all workers together. */
  async holdings(): Promise<Holdings> {
    const all = await Promise.all(this.#workers.map((worker) => worker.holdings()));
    return all.reduce((sum, one) => {
      return Object.fromEntries(
        Object.entries(one).map(([key, value]) => [key, value + sum[key as keyof Holdings]]),
      ) as unknown as Holdings;
    });
  }

  async figures(): Promise<Figures> {
    const lines = (await this.#asked('/metrics')).flatMap((body) => body.split('\n'));
    const sum = (name: string, label = '') =>
      lines
        .filter((line) => line.startsWith(`${name}{`) && line.includes(label))
        .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
    return {
      ended: sum('inorder_events_total'),
      duplicates: sum('inorder_events_total', 'outcome="duplicate"'),
      deadLettered: sum('inorder_events_total', 'outcome="dead-lettered"'),
      reconnects: sum('inorder_reconnects_total'),
      openGaps: sum('inorder_gaps_open'),
      held: sum('inorder_held'),
    };
  }

  /** Messages ready in the shards. */
  async ready(): Promise<number> {
    return this.#count(shardQueueNames({ stream: this.stream, shards }));
  }

  /** Messages in the queues for dead letters and for what found no shard. */
  async astray(): Promise<number> {
    return this.#count([deadLetterQueueName(this.stream), unroutedQueueName(this.stream)]);
  }

  /** Why events were dead-lettered, as the workers say in their logs. */
  get reasons(): readonly string[] {
    const reasons = this.workers.flatMap(({ output }) => [...output.matchAll(/"reason":"(\w+)"/g)]);
    return [...new Set(reasons.map(([, reason]) => reason!))];
  }

  /** Nothing is ready, and the workers have nothing that is not settled. */
  async isDrained(): Promise<boolean> {
    if ((await this.ready()) > 0) return false;
    const statuses = (await this.#asked('/status')).map(
      (body) => JSON.parse(body) as { readonly shards: readonly { readonly unsettled: number }[] },
    );
    return statuses.every(({ shards: all }) => all.every(({ unsettled }) => unsettled === 0));
  }

  async memory(): Promise<ServicesMemory> {
    const [, used] = /used_memory:(\d+)/.exec(await this.#redis.info('memory')) ?? [];
    return { broker: await this.#brokerBytes(), store: Number(used) / mib };
  }

  /** All workers end in order; what each of them says that did not is told. */
  async end(): Promise<readonly string[]> {
    this.#isEnding = true;
    const ends = this.workers.map(async (worker, ordinal) => {
      worker.signal('SIGTERM');
      const { code, signal } = await worker.exited;
      return code === 0
        ? []
        : [`worker ${ordinal} ended with ${code ?? signal}: ${worker.output.trimEnd().split('\n').slice(-3).join('\n')}`];
    });
    return (await Promise.all(ends)).flat();
  }

  /** Of all workers. One that is short of processor time is asked again. */
  #asked(path: string): Promise<string[]> {
    const answer = (worker: WorkerProcess) => waitFor(() => worker.get(path).catch(() => null), { what: `worker ${worker.pid} to answer` });
    return Promise.all(this.workers.map(async (worker) => (await answer(worker)).body));
  }

  async #brokerBytes(): Promise<number | null> {
    if (this.#services.managementUrl === null) return null;
    const { username, password, origin } = new URL(this.#services.managementUrl);
    const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
    const nodes = (await (await fetch(`${origin}/api/nodes`, { headers: { authorization } })).json()) as { readonly mem_used: number }[];
    return nodes.reduce((sum, { mem_used: bytes }) => sum + bytes, 0) / mib;
  }

  async #count(queues: readonly string[]): Promise<number> {
    const channel = await this.#connection.createChannel();
    let messages = 0;
    for (const queue of queues) messages += (await channel.checkQueue(queue)).messageCount;
    await channel.close();
    return messages;
  }
}
