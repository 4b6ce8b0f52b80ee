/**
 * One connection to the broker that is kept alive. `amqp-connection-manager` is used only to reconnect after a loss, in
 * turn to the nodes of a cluster. Its channel wrappers are not used: they settle deliveries on whatever channel is current,
 * so a tag of a dead channel would settle another message. Users of a connection open their own channels on `current`
 * (kept-channel.ts), and drop them at `lost`.
 *
 * Publishing and consuming need separate connections: a broker that is short of memory stops reading from a connection
 * that publishes, and acknowledgements on it would wait as well.
 */
import amqpManager, { type AmqpConnectionManager } from 'amqp-connection-manager';
import { type ChannelModel, credentials } from 'amqplib';
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { backOffMs, type Time, within } from '../time.ts';
import { type TlsFiles, tlsOptions } from '../tls.ts';
import { brokerWords, describeConnectFailure, isRefusedLogin } from './refusal.ts';

/** Where the broker is, and how it knows us. */
export interface BrokerAddress {
  /** Nodes of one cluster, tried in turn. With credentials; never logged as they are. */
  readonly urls: readonly string[];
  /** Default `plain`: by user and password of the URL. `external`: by the certificate. */
  readonly auth?: 'plain' | 'external';
  /** For `amqps://` and for the management API over `https://`. Default: the authorities of Node.js, and no certificate. */
  readonly tls?: Partial<TlsFiles>;
}

export interface ConnectionOptions extends BrokerAddress {
  /** Shown by the broker beside the connection. */
  readonly name: string;
  readonly log: Log;
  /** Default 15. A peer that is silent for two to three times as long counts as lost. */
  readonly heartbeatSeconds?: number;
  /** Called when a lost connection is back. */
  readonly onReconnected?: () => void;
  readonly time: Time;
}

/** Callbacks of a connection's user. An exception thrown by one is logged and ignored. */
export interface ConnectionListener {
  up(connection: ChannelModel): void;
  lost(cause: Error): void;
  /** The broker blocks publishes, with the reason (memory or disk alarm); null: it accepts them again. */
  blocked?(reason: string | null): void;
}

const defaultHeartbeatSeconds = 15;
const connectTimeoutMs = 10_000;
const closeTimeoutMs = 5_000;
const reconnect = { initialMs: 200, maxMs: 5_000, leastShare: 0.5 };
/** A connection that is lost sooner does not reset the back-off. */
const stableAfterMs = 5_000;

export class BrokerConnection {
  /** The clock of the connection's users. */
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
      connectionOptions: Object.assign(socketOptions(options, options.log), {
        timeout: connectTimeoutMs,
        clientProperties: { connection_name: options.name },
      }),
    });
    this.#manager.on('connect', ({ connection }) => this.#up(connection as unknown as ChannelModel));
    this.#manager.on('connectFailed', ({ err, url }) => this.#failed(err, url));
    this.#manager.on('disconnect', ({ err }) => this.#lost(err));
    this.#manager.on('blocked', ({ reason }) => this.#setBlocked(reason));
    this.#manager.on('unblocked', () => this.#setBlocked(null));
  }

  /** The open connection, or null. */
  get current(): ChannelModel | null {
    return this.#current;
  }

  /** The version that the broker reports; null without a connection, or if it reports none. */
  get brokerVersion(): string | null {
    const version: unknown = this.#current?.connection.serverProperties?.['version'];
    return typeof version === 'string' ? version : null;
  }

  get connected(): boolean {
    return this.#current !== null;
  }

  /** Why the broker blocks publishes (memory or disk alarm), or null. */
  get blocked(): string | null {
    return this.#blocked;
  }

  /** Why there is no connection, in a sentence; null with a connection, and before the first attempt has ended. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** The cause of the connection's end, known before its channels report their close; null otherwise. */
  get ending(): Error | null {
    return this.#ending;
  }

  /** Calls `up` at once if there is a connection. Returns a function that stops listening. */
  listen(listener: ConnectionListener): () => void {
    this.#listeners.add(listener);
    const { current } = this;
    if (current !== null) this.#guarded(() => listener.up(current));
    return () => this.#listeners.delete(listener);
  }

  /**
   * The current connection, or the first one within `timeoutMs`. Rejects with `UnavailableError`, at once when
   * the broker refuses the login or the virtual host, although the attempts continue in the background.
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

  /** Closes the connection and calls the listeners; unconfirmed and unacknowledged messages stay so. Never rejects. */
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
    // A connection that is lost during the close does not answer the close; it only emits an error.
    const failed = new Promise<true>((resolve) => model.once('error', () => resolve(true)));
    this.#lost(new Error('the connection was closed here'));
    // A broker that does not answer must not keep the process running: without its socket the connection ends by itself.
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

  /** The manager always waits the same time after a failure, which it reads after reporting the failure: set it here. */
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

  /** The manager would take a listener's exception for a failed connection, and open a second one. */
  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#options.log.error({ connection: this.#options.name, error }, 'a listener of the connection failed');
    }
  }
}

/** Options of `amqplib`, for one object of which the files of TLS are read at each connect: it must not be copied. */
export function socketOptions({ auth, tls = {} }: BrokerAddress, log: Pick<Log, 'warn'>) {
  const warn = (message: string) => log.warn({}, message);
  return Object.assign(tlsOptions(tls, warn), { noDelay: true, ...(auth === 'external' ? { credentials: credentials.external() } : {}) });
}

/** Connects in the background; use `ready` or `listen` to wait for it. */
export function createConnection(options: ConnectionOptions): BrokerConnection {
  return new BrokerConnection(options);
}

/** An internal of the client library, which does not expose it. */
function socketOf(model: ChannelModel): { destroy(error: Error): void } | null {
  const inside = model.connection as { readonly stream?: { destroy(error: Error): void } };
  return inside.stream ?? null;
}
