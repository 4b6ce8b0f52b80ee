/**
 * The console's own connections to broker and store, opened when somebody looks for the first time: a worker whose console
 * nobody opens has none of them. What is lost is an error to whoever waits for it, and comes back by itself.
 */
import type { ChannelModel } from 'amqplib';
import type { Config } from '../config/config.ts';
import { operatorPatienceMs, withOperatorLock } from '../dead-letters/operator-lock.ts';
import { UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { type BrokerConnection, createConnection } from '../rabbitmq/connection.ts';
import { type AmqpPublisher, createAmqpPublisher } from '../rabbitmq/publisher.ts';
import { openStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { OneAtATime } from './one-at-a-time.ts';

export class Sources {
  readonly time: Time;
  readonly #config: Config;
  readonly #log: Log;
  readonly #deadLetters = new OneAtATime();
  #broker: BrokerConnection | null = null;
  #store: Store | null = null;

  constructor(config: Config, log: Log, time: Time) {
    this.#config = config;
    this.#log = log;
    this.time = time;
  }

  get store(): Store {
    this.#store ??= openStore(this.#config, { log: this.#log, time: this.time });
    return this.#store;
  }

  /** @throws UnavailableError when there is no connection to the broker, or it is lost meanwhile. */
  async withBroker<T>(use: (connection: ChannelModel) => Promise<T>): Promise<T> {
    const { broker, serviceName } = this.#config;
    this.#broker ??= createConnection({ urls: broker.urls, name: `${serviceName} console`, log: this.#log, time: this.time });
    const connection = await this.#broker.ready();
    let stopListening: () => void = () => undefined;
    const lost = new Promise<never>((_, reject) => {
      stopListening = this.#broker!.listen({
        up: () => undefined,
        lost: (cause) => reject(new UnavailableError('the connection to the broker was lost', { cause })),
      });
    });
    lost.catch(() => undefined);
    try {
      return await Promise.race([use(connection), lost]);
    } finally {
      stopListening();
    }
  }

  /** Whether the broker counts fewer dead letters than there are, because this process holds some. */
  get deadLettersAreTaken(): boolean {
    return this.#deadLetters.busy;
  }

  /**
   * The dead letters for one reader or changer: neither this process nor another one that takes the operator's lock has them
   * at the same time, for what one holds the other does not see.
   */
  withDeadLetters<T>(use: (connection: ChannelModel) => Promise<T>): Promise<T> {
    const { stream } = this.#config.broker;
    return this.#deadLetters.run(() => this.withBroker((connection) => withOperatorLock(connection, stream, operatorPatienceMs, () => use(connection))));
  }

  /** Lends a publisher to the stream, on a connection of its own. */
  async withPublisher<T>(use: (publisher: AmqpPublisher) => Promise<T>): Promise<T> {
    const { broker, serviceName } = this.#config;
    const connection = createConnection({ urls: broker.urls, name: `${serviceName} console replay`, log: this.#log, time: this.time });
    const publisher = createAmqpPublisher({ connection, exchange: broker.stream, log: this.#log });
    try {
      return await use(publisher);
    } finally {
      await publisher.close();
      await connection.close();
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#broker?.close(), this.#store?.close()]);
  }
}
