/**
 * One connection to the broker that is kept alive. `amqp-connection-manager` connects again after a loss, in
 * turn over the nodes of a cluster; of it only that is used. Its channel wrappers are not: they settle
 * deliveries on whatever channel is current, and a tag of a dead channel then settles another message. Whoever
 * uses a connection opens channels on `current`, owns their life, and drops them when `lost` is said.
 */
import amqpManager, { type AmqpConnectionManager } from 'amqp-connection-manager';
import type { ChannelModel } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';

export interface ConnectionOptions {
  /** Nodes of one cluster, tried in turn. With credentials; never logged as they are. */
  readonly urls: readonly string[];
  /** Shown by the broker beside the connection. */
  readonly name: string;
  readonly log: Log;
  /** Default 15. A peer that says nothing for about twice as long is given up. */
  readonly heartbeatSeconds?: number;
  /** A lost connection is back. */
  readonly onReconnected?: () => void;
}

export interface ConnectionListener {
  up(connection: ChannelModel): void;
  lost(cause: Error): void;
}

const defaultHeartbeatSeconds = 15;
const reconnectSeconds = { first: 0.2, last: 5 };

export class BrokerConnection {
  readonly #options: ConnectionOptions;
  readonly #manager: AmqpConnectionManager;
  readonly #listeners = new Set<ConnectionListener>();
  #current: ChannelModel | null = null;
  #blocked: string | null = null;
  #failures = 0;
  #connections = 0;
  #lastError: Error | null = null;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#manager = amqpManager.connect([...options.urls], {
      heartbeatIntervalInSeconds: options.heartbeatSeconds ?? defaultHeartbeatSeconds,
      reconnectTimeInSeconds: reconnectSeconds.first,
      connectionOptions: { noDelay: true, timeout: 10_000, clientProperties: { connection_name: options.name } },
    });
    this.#manager.on('connect', ({ connection }) => this.#up(connection as unknown as ChannelModel));
    this.#manager.on('connectFailed', ({ err }) => this.#failed(err));
    this.#manager.on('disconnect', ({ err }) => this.#lost(err));
    this.#manager.on('blocked', ({ reason }) => this.#setBlocked(reason));
    this.#manager.on('unblocked', () => this.#setBlocked(null));
  }

  /** Null while there is none. */
  get current(): ChannelModel | null {
    return this.#current;
  }

  get connected(): boolean {
    return this.#current !== null;
  }

  /** Why the broker takes no publishes (memory or disk alarm), or null. */
  get blocked(): string | null {
    return this.#blocked;
  }

  /** Tells at once when there is a connection, and from then on. Returns how to stop listening. */
  listen(listener: ConnectionListener): () => void {
    this.#listeners.add(listener);
    if (this.#current !== null) listener.up(this.#current);
    return () => this.#listeners.delete(listener);
  }

  /** The current connection, or the first that comes within `timeoutMs`. Rejects with `UnavailableError`. */
  ready(timeoutMs = 5_000): Promise<ChannelModel> {
    if (this.#current !== null) return Promise.resolve(this.#current);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        stop();
        reject(new UnavailableError(`the broker cannot be reached: ${this.#lastError?.message ?? 'no answer'}`));
      }, timeoutMs);
      const stop = this.listen({
        up: (connection) => {
          clearTimeout(timer);
          queueMicrotask(() => stop());
          resolve(connection);
        },
        lost: () => {},
      });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#manager.close().catch(() => undefined);
    this.#current = null;
  }

  #up(connection: ChannelModel): void {
    const { log, name, onReconnected } = this.#options;
    this.#current = connection;
    this.#blocked = null;
    this.#failures = 0;
    this.#connections++;
    log.info({ connection: name }, this.#connections === 1 ? 'connected to the broker' : 'connected to the broker again');
    if (this.#connections > 1) onReconnected?.();
    for (const listener of [...this.#listeners]) listener.up(connection);
  }

  #failed(error: Error): void {
    this.#lastError = error;
    this.#failures++;
    // Read by the manager right after this event: it has no back-off of its own.
    const { first, last } = reconnectSeconds;
    const ceiling = Math.min(last, first * 2 ** Math.min(this.#failures, 16));
    this.#manager.reconnectTimeInSeconds = ceiling * (0.5 + Math.random() / 2);
    if (this.#failures === 1) this.#options.log.warn({ connection: this.#options.name, cause: error.message }, 'the broker cannot be reached; trying again');
  }

  #lost(error: Error | undefined): void {
    const cause = error ?? new Error('the connection was closed');
    this.#current = null;
    this.#manager.reconnectTimeInSeconds = reconnectSeconds.first * (0.5 + Math.random() / 2);
    if (!this.#closed) this.#options.log.warn({ connection: this.#options.name, cause: cause.message }, 'the connection to the broker is lost');
    for (const listener of [...this.#listeners]) listener.lost(cause);
  }

  #setBlocked(reason: string | null): void {
    this.#blocked = reason;
    this.#options.log.warn({ connection: this.#options.name, reason }, reason === null ? 'the broker takes publishes again' : 'the broker takes no publishes');
  }
}

export function createConnection(options: ConnectionOptions): BrokerConnection {
  return new BrokerConnection(options);
}
