/**
 * The connection to a Redis in any of its forms; all commands are sent through it.
 *
 * Guarantees: nothing waits without bound (a command is answered, or fails after `commandTimeoutMs`; without a
 * connection it fails at once); a lost connection comes back by itself, with capped and jittered pauses; every failure
 * is an `UnavailableError`, except an error that answers a single command. A failed command may have been executed, or
 * may be executed later: commands in flight when the connection is lost are resent once.
 */
import { Cluster, Redis, type ClusterOptions, type CommonRedisOptions } from 'ioredis';
import { connectionName } from '../../config/config.ts';
import { UnavailableError } from '../../errors.ts';
import type { Log } from '../../observability/log.ts';
import { backOffMs, type Time, type Timer, within } from '../../time.ts';
import { connectFailure, tlsFailure, tlsOptions } from '../../tls.ts';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { mayServeNextTime, unavailable } from './failures.ts';
import { describeTarget, type RedisTarget } from './redis-url.ts';

export interface ConnectionOptions {
  readonly target: RedisTarget;
  readonly commandTimeoutMs: number;
  /** Shown by Redis. Default: that of a program. */
  readonly name?: string | undefined;
  readonly log: Pick<Log, 'info' | 'warn'> | undefined;
  /** Called when a lost connection is back: what is known of the store may be out of date. */
  readonly onReconnect: (() => void) | undefined;
  readonly time: Time;
}

/** A command with its arguments. */
export type Command = readonly [name: string, ...args: (string | number)[]];

/** The answer to one command, or the error that Redis returned. */
export type Reply = readonly [error: Error | null, value?: unknown];

const reconnect = { initialMs: 50, maxMs: 2_000, leastShare: 0.5 };
/** A command in flight when the connection is lost is resent after one reconnect, or fails. */
const retriesPerCommand = 1;

export class Connection {
  /** The target for messages, without credentials. */
  readonly where: string;
  /** The clock of the connection's users. */
  readonly time: Time;
  readonly #client: Redis | Cluster;
  readonly #options: ConnectionOptions;
  readonly #firstOutcome: Promise<void>;
  #wasReady = false;
  #lastError: Error | null = null;
  #closed = false;
  #life = 0;
  /** How often in a row the client has given up reconnecting. */
  #ends = 0;
  /** While it is looked for why a cluster cannot be reached over TLS. */
  #asking: Promise<void> | null = null;
  #connectingAgain: Timer | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.where = describeTarget(options.target);
    this.time = options.time;
    const client = createClient(options);
    this.#client = client;
    this.#firstOutcome = new Promise((resolve) => {
      for (const event of ['ready', 'error', 'close', 'end']) client.once(event, () => resolve());
    });
    client.on('error', (error: Error) => this.#noteError(error));
    client.on('node error', (error: Error) => this.#noteError(error));
    client.on('ready', () => this.#noteReady());
    client.on('close', () => void this.#life++);
    client.on('+node', () => this.#noteNode());
    client.on('end', () => this.#connectAgain());
  }

  /** Resolves when commands can be sent; waits for the first connection for at most the time of a command. */
  async ready(): Promise<void> {
    if (this.#isReady()) return;
    let none = 'there is no connection';
    if (!this.#wasReady && !this.#closed) {
      const { commandTimeoutMs } = this.#options;
      const outcome = this.#firstOutcome.then(() => this.#asking).then(() => true);
      if ((await within(this.time, outcome, commandTimeoutMs)) === null) none += ` after ${commandTimeoutMs} ms`;
    }
    if (this.#isReady()) return;
    if (this.#closed) throw new UnavailableError(`The connection to ${this.where} was closed by this process.`);
    throw this.#unavailable(this.#lastError ?? new Error(none));
  }

  /** Sends everything at once and answers in the same order. Fails as a whole when there is no connection. */
  async send(commands: readonly Command[]): Promise<readonly Reply[]> {
    if (commands.length === 0) return [];
    // Sent in the same tick if possible: a call made before `close` is sent before it.
    if (!this.#isReady()) await this.ready();
    const client = this.#client;
    return client instanceof Cluster ? sendToCluster(client, commands) : sendToServer(client, commands);
  }

  /** Sends one command; any failure counts as the store's. */
  async ask(command: Command): Promise<unknown> {
    const [value] = await this.askAll([command]);
    return value;
  }

  /** The same for several, sent at once. */
  async askAll(commands: readonly Command[]): Promise<readonly unknown[]> {
    return (await this.send(commands)).map(([error, value]) => {
      if (error) throw unavailable(this.where, error);
      return value;
    });
  }

  /** Sends one command to every master; the answers are in the order of the masters. Fails when any of them fails. */
  async askMasters(command: Command): Promise<readonly { readonly node: string; readonly value: unknown }[]> {
    const masters = await this.masters();
    const [name, ...args] = command;
    const ask = async (master: Redis): Promise<{ node: string; value: unknown }> => ({
      node: `${master.options.host}:${master.options.port}`,
      value: await master.call(name, args),
    });
    try {
      return await Promise.all(masters.map(ask));
    } catch (error) {
      throw unavailable(this.where, error as Error);
    }
  }

  /**
   * Every master that serves slots. The client drops a node with a lost connection until it reads the cluster map
   * again; meanwhile a command for all masters would silently reach only some.
   */
  async masters(): Promise<readonly Redis[]> {
    await this.ready();
    const client = this.#client;
    if (!(client instanceof Cluster)) return [client];
    const deadlineMs = this.time.nowMs() + this.#options.commandTimeoutMs;
    for (;;) {
      const masters = client.nodes('master');
      const [, size] = /cluster_size:(\d+)/.exec(String(await this.ask(['CLUSTER', 'INFO']))) ?? [];
      if (masters.length >= Number(size ?? 0)) return masters;
      if (this.time.nowMs() > deadlineMs) {
        throw unavailable(this.where, new Error(`only ${masters.length} of its ${size} masters are known`));
      }
      await new Promise<void>((resolve) => client.refreshSlotsCache(() => resolve()));
    }
  }

  /** Changes whenever the connection is lost (one server only, no cluster). Answers of one life come from one run of a server. */
  get life(): number {
    return this.#life;
  }

  /** Reconnects, to whatever server the address now names. */
  renew(): void {
    if (this.#client instanceof Redis && this.#isReady()) this.#client.disconnect(true);
  }

  get isCluster(): boolean {
    return this.#client instanceof Cluster;
  }

  /** Waits for the answers to sent commands, then closes. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#connectingAgain?.cancel();
    if (this.#isReady()) await this.#client.quit().catch(() => undefined);
    this.#client.disconnect();
  }

  #isReady(): boolean {
    return this.#client.status === 'ready';
  }

  /**
   * Connects again when the client has given up for good, which none of its options asks for: version 6.0.0 does so when a
   * fail-over is announced while it asks the sentinels for the master.
   */
  #connectAgain(): void {
    if (this.#closed) return;
    this.#connectingAgain?.cancel();
    const again = () => void this.#client.connect().catch(() => undefined);
    this.#connectingAgain = this.time.after(backOffMs(reconnect, ++this.#ends, this.time), again);
  }

  #noteError(error: Error): void {
    // That there is no connection is no cause of it: a cluster says so after each error of a node, or instead of it.
    if (!/^(Connection is closed|Failed to refresh slots cache)\.$/.test(error.message)) return this.#setError(error);
    const tls = this.#client instanceof Cluster && !this.#isReady() ? this.#client.options.redisOptions?.tls : undefined;
    if (tls !== undefined) this.#asking ??= this.#askForCause(tls, error);
    else if (this.#lastError === null) this.#setError(error);
  }

  /** What is wrong with a certificate the client of a cluster keeps to itself: a connection of our own shows it. */
  async #askForCause(tls: TlsOptions, error: Error): Promise<void> {
    const { target, commandTimeoutMs, time } = this.#options;
    let found: Error | null = null;
    let known: Error | null = null;
    for (const { host, port } of target.nodes) {
      if (this.#closed) break;
      const failure = await connectFailure({ ...tls, host, port }, commandTimeoutMs, time);
      // Of a node that can be reached the client says itself why it does not serve; that others are down is not the reason.
      if (failure === null) known = this.#lastError;
      found = failure ?? found;
      if (tlsFailure(failure, 'REDIS_URL') === null) continue;
      known = failure;
      break;
    }
    this.#asking = null;
    if (!this.#isReady()) this.#setError(known ?? found ?? this.#lastError ?? error);
  }

  #setError(error: Error): void {
    const repeats = this.#lastError?.message === error.message;
    this.#lastError = error;
    if (repeats || this.#closed) return;
    this.#options.log?.warn({ store: this.where }, this.#unavailable(error).message);
  }

  #unavailable(error: Error): UnavailableError {
    return unavailable(this.where, error, this.#wasReady ? 'lost' : this.#options.target.tls === null ? 'plain' : 'tls');
  }

  #noteReady(): void {
    const returned = this.#wasReady;
    this.#wasReady = true;
    this.#lastError = null;
    this.#ends = 0;
    this.#options.log?.info({ store: this.where }, returned ? 'connected to the store again' : 'connected to the store');
    if (returned) this.#options.onReconnect?.();
  }

  /** A node that rejoins a cluster may have lost data, as a server may. */
  #noteNode(): void {
    if (this.#wasReady) this.#options.onReconnect?.();
  }
}

async function sendToServer(client: Redis, commands: readonly Command[]): Promise<readonly Reply[]> {
  const pipeline = client.pipeline();
  for (const [name, ...args] of commands) pipeline.call(name, args);
  return (await pipeline.exec()) ?? [];
}

/**
 * Sends the commands separately and concurrently: the client sends each to the node with its slot and follows redirections,
 * which it does not do within a pipeline. One pipeline per node was not faster.
 */
async function sendToCluster(client: Cluster, commands: readonly Command[]): Promise<readonly Reply[]> {
  const send = async ([name, ...args]: Command): Promise<Reply> => {
    try {
      return [null, await client.call(name, args)];
    } catch (error) {
      return [error as Error];
    }
  };
  return Promise.all(commands.map(send));
}

function createClient({ target, commandTimeoutMs, name, time, log }: ConnectionOptions): Redis | Cluster {
  const retryPauseMs = (attempt: number) => backOffMs(reconnect, attempt, time);
  const tls = target.tls === null ? undefined : tlsOptions(target.tls, (message) => log?.warn({ store: describeTarget(target) }, message));
  const common = {
    ...commonOptions(target, commandTimeoutMs, retryPauseMs),
    ...(tls && { tls }),
    connectionName: name ?? connectionName('program'),
  };
  const [first] = target.nodes;
  const nodes = target.nodes.map(({ host, port }) => ({ host, port }));
  if (target.kind === 'cluster') return new Cluster(nodes, clusterOptions(common, retryPauseMs));
  if (target.kind === 'server') return new Redis({ ...common, host: first.host, port: first.port });
  return new Redis({
    ...common,
    sentinels: nodes,
    name: target.masterName,
    sentinelUsername: target.sentinelUsername,
    sentinelPassword: target.sentinelPassword,
    sentinelCommandTimeout: commandTimeoutMs,
    sentinelRetryStrategy: retryPauseMs,
    failoverDetector: true,
    ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: tls }),
  });
}

type Retrying = (attempt: number) => number;

function commonOptions(target: RedisTarget, commandTimeoutMs: number, retryStrategy: Retrying): CommonRedisOptions {
  return {
    username: target.username,
    password: target.password,
    db: target.db,
    commandTimeout: commandTimeoutMs,
    connectTimeout: commandTimeoutMs,
    // The operating system needs a quarter of an hour to notice a half-open connection.
    socketTimeout: 2 * commandTimeoutMs,
    enableOfflineQueue: false,
    // Without it version 6.0.0 of the client never settles commands that were in flight when the connection was lost.
    autoResendUnfulfilledCommands: true,
    maxRetriesPerRequest: retriesPerCommand,
    retryStrategy,
    reconnectOnError: mayServeNextTime,
  };
}

function clusterOptions(redisOptions: CommonRedisOptions, clusterRetryStrategy: Retrying): ClusterOptions {
  return {
    redisOptions,
    enableOfflineQueue: false,
    clusterRetryStrategy,
    slotsRefreshTimeout: redisOptions.commandTimeout,
  };
}
