/**
 * One connection to the broker that is kept alive. `amqp-connection-manager` connects again after a loss, in
 * turn over the nodes of a cluster; of it only that is used. Its channel wrappers are not: they settle
 * deliveries on whatever channel is current, and a tag of a dead channel then settles another message. Whoever
 * uses a connection opens channels on `current` (kept-channel.ts), owns their life, and drops them when `lost` is said.
 *
 * Publishing and consuming need one each: a broker that is short of memory stops reading from a connection that
 * publishes, and acknowledgements on it would wait as well.
 */
import amqpManager, { type AmqpConnectionManager } from 'amqp-connection-manager';
import type { ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { backOffMs, type Time, within } from '../time.ts';
import { brokerWords, describeConnectFailure, isRefusedLogin } from './refusal.ts';

export interface ConnectionOptions {
  /** Nodes of one cluster, tried in turn. With credentials; never logged as they are. */
  readonly urls: readonly string[];
  /** Shown by the broker beside the connection. */
  readonly name: string;
  readonly log: Log;
  /** Default 15. A peer that says nothing for two to three times as long is given up. */
  readonly heartbeatSeconds?: number;
  /** A lost connection is back. */
  readonly onReconnected?: () => void;
  readonly time: Time;
}

/** What a user of the connection is told. An exception thrown here is logged and goes no further. */
export interface ConnectionListener {
  up(connection: ChannelModel): void;
  lost(cause: Error): void;
  /** The broker takes no publishes any more, and why (memory or disk alarm); null: it takes them again. */
  blocked?(reason: string | null): void;
}

const defaultHeartbeatSeconds = 15;
const connectTimeoutMs = 10_000;
const closeTimeoutMs = 5_000;
const reconnect = { initialMs: 200, maxMs: 5_000, leastShare: 0.5 };
/** A connection that is lost sooner was no success: the back-off goes on. */
const stableAfterMs = 5_000;

export class BrokerConnection {
  /** Of whatever is done on this connection. */
  readonly time: Time;
  readonly #options: ConnectionOptions;
  readonly #manager: AmqpConnectionManager;
  readonly #listeners = new Set<ConnectionListener>();
  #current: ChannelModel | null = null;
  #blocked: string | null = null;
  #ending: Error | null = null;
  #trouble: string | null = null;
  #failures = 0;
  #connections = 0;
  #upAtMs = 0;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.time = options.time;
    this.#manager = amqpManager.connect([...options.urls], {
      heartbeatIntervalInSeconds: options.heartbeatSeconds ?? defaultHeartbeatSeconds,
      reconnectTimeInSeconds: reconnect.initialMs / 1_000,
      connectionOptions: { noDelay: true, timeout: connectTimeoutMs, clientProperties: { connection_name: options.name } },
    });
    this.#manager.on('connect', ({ connection }) => this.#up(connection as unknown as ChannelModel));
    this.#manager.on('connectFailed', ({ err, url }) => this.#failed(err, url));
    this.#manager.on('disconnect', ({ err }) => this.#lost(err));
    this.#manager.on('blocked', ({ reason }) => this.#setBlocked(reason));
    this.#manager.on('unblocked', () => this.#setBlocked(null));
  }

  /** Null while there is none. */
  get current(): ChannelModel | null {
    return this.#current;
  }

  /** What the broker says of itself; null while there is no connection, or where it does not say. */
  get brokerVersion(): string | null {
    const version: unknown = this.#current?.connection.serverProperties?.['version'];
    return typeof version === 'string' ? version : null;
  }

  get connected(): boolean {
    return this.#current !== null;
  }

  /** Why the broker takes no publishes (memory or disk alarm), or null. */
  get blocked(): string | null {
    return this.#blocked;
  }

  /** Why there is no connection, in a sentence; null while there is one and before the first try has ended. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** What the connection is ending of, known before its channels say that they are closed; null while it is well. */
  get ending(): Error | null {
    return this.#ending;
  }

  /** Tells at once when there is a connection, and from then on. Returns how to stop listening. */
  listen(listener: ConnectionListener): () => void {
    this.#listeners.add(listener);
    const { current } = this;
    if (current !== null) this.#guarded(() => listener.up(current));
    return () => this.#listeners.delete(listener);
  }

  /**
   * The current connection, or the first that comes within `timeoutMs`. Rejects with `UnavailableError`: at once when
   * the broker refuses the login or the virtual host, though it is tried on behind that.
   */
  async ready(timeoutMs = 5_000): Promise<ChannelModel> {
    if (this.#current !== null) return this.#current;
    const stops: (() => void)[] = [];
    const outcome = new Promise<ChannelModel | Error>((resolve) => {
      const refused = ({ err }: { err: Error }) => {
        if (isRefusedLogin(err)) resolve(err);
      };
      this.#manager.on('connectFailed', refused);
      stops.push(this.listen({ up: resolve, lost: resolve }), () => this.#manager.off('connectFailed', refused));
    });
    const answer = await within(this.time, outcome, timeoutMs);
    for (const stop of stops) stop();
    if (answer !== null && !(answer instanceof Error)) return answer;
    throw new UnavailableError(this.#trouble ?? 'the broker does not answer');
  }

  /** Ends the connection and tells the listeners; whatever was unconfirmed or unacknowledged is so still. Never rejects. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const model = this.#current;
    const closed = this.#manager.close().then(
      () => true,
      () => true,
    );
    if (model === null) {
      await within(this.time, closed, closeTimeoutMs);
      return;
    }
    // A connection that is lost while it closes never answers the close; it only says that it failed.
    const failed = new Promise<true>((resolve) => model.once('error', () => resolve(true)));
    this.#lost(new Error('the connection was closed here'));
    // A broker that does not answer must not keep the process: without its socket the connection ends by itself.
    if ((await within(this.time, Promise.race([closed, failed]), closeTimeoutMs)) === null) {
      socketOf(model)?.destroy(new Error('the broker did not confirm the end of the connection'));
    }
  }

  #up(connection: ChannelModel): void {
    const { log, name, onReconnected } = this.#options;
    if (this.#closed) return;
    connection.on('error', (error) => {
      this.#ending = error;
    });
    this.#current = connection;
    this.#ending = null;
    this.#blocked = null;
    this.#trouble = null;
    this.#upAtMs = this.time.nowMs();
    this.#connections++;
    log.info({ connection: name }, this.#connections === 1 ? 'connected to the broker' : 'connected to the broker again');
    if (this.#connections > 1) this.#guarded(() => onReconnected?.());
    this.#tell((listener) => listener.up(connection));
  }

  #failed(error: Error, url: unknown): void {
    const trouble = describeConnectFailure(error, url);
    if (this.#failures === 0 || trouble !== this.#trouble) {
      this.#options.log.warn({ connection: this.#options.name, cause: trouble }, 'no connection to the broker; trying again');
    }
    this.#trouble = trouble;
    this.#backOff();
  }

  #lost(error: Error | undefined): void {
    const cause = error ?? new Error('the connection was closed');
    this.#current = null;
    this.#blocked = null;
    this.#trouble = `the connection to the broker is lost: ${brokerWords(cause)}`;
    if (this.time.nowMs() - this.#upAtMs > stableAfterMs) this.#failures = 0;
    this.#backOff();
    if (!this.#closed) {
      this.#options.log.warn({ connection: this.#options.name, cause: brokerWords(cause) }, 'the connection to the broker is lost');
    }
    this.#tell((listener) => listener.lost(cause));
  }

  /** The manager waits the same time after each failure; it reads that right after it has told of one. */
  #backOff(): void {
    this.#failures++;
    this.#manager.reconnectTimeInSeconds = backOffMs(reconnect, this.#failures, this.time) / 1_000;
  }

  #setBlocked(reason: string | null): void {
    this.#blocked = reason;
    const message = reason === null ? 'the broker takes publishes again' : 'the broker takes no publishes';
    this.#options.log.warn({ connection: this.#options.name, reason }, message);
    this.#tell((listener) => listener.blocked?.(reason));
  }

  #tell(say: (listener: ConnectionListener) => void): void {
    for (const listener of [...this.#listeners]) this.#guarded(() => say(listener));
  }

  /** The manager would take an exception of ours for a failed connection, and open a second one. */
  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#options.log.error({ connection: this.#options.name, error }, 'a listener of the connection failed');
    }
  }
}

/** Connects in the background; `ready` and `listen` tell when it is there. */
export function createConnection(options: ConnectionOptions): BrokerConnection {
  return new BrokerConnection(options);
}

/** Of the client library's inside, which has no name for it outside. */
function socketOf(model: ChannelModel): { destroy(error: Error): void } | null {
  const inside = model.connection as { readonly stream?: { destroy(error: Error): void } };
  return inside.stream ?? null;
}
