/**
 * The console's own connections to broker and store, opened when somebody looks for the first time: a worker whose console
 * nobody opens has none of them. What is lost is an error to whoever waits for it, and comes back by itself.
 */
import type { ChannelModel } from 'amqplib';
import type { Config } from '../config/config.ts';
import { DeadLetters, letterSettings } from '../dead-letters/dead-letters.ts';
import { KeptBroker, withConnection } from '../dead-letters/letter-broker.ts';
import type { Log } from '../observability/log.ts';
import { openStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import type { Time } from '../time.ts';

export class Sources {
  readonly time: Time;
  readonly #config: Config;
  readonly #log: Log;
  readonly #broker: KeptBroker;
  #store: Store | null = null;
  #letters: DeadLetters | null = null;

  constructor(config: Config, log: Log, time: Time) {
    this.#config = config;
    this.#log = log;
    this.time = time;
    const { broker, serviceName } = config;
    const names = { reading: `${serviceName} console`, publishing: `${serviceName} console replay` };
    this.#broker = new KeptBroker({ urls: broker.urls, stream: broker.stream, names, log, time });
  }

  get store(): Store {
    this.#store ??= openStore(this.#config, { log: this.#log, time: this.time });
    return this.#store;
  }

  get letters(): DeadLetters {
    this.#letters ??= new DeadLetters({ ...letterSettings(this.#config), store: this.store, broker: this.#broker, time: this.time });
    return this.#letters;
  }

  /** @throws UnavailableError when there is no connection to the broker, or it is lost meanwhile. */
  withBroker<T>(use: (connection: ChannelModel) => Promise<T>): Promise<T> {
    return withConnection(this.#broker, use);
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#broker.close(), this.#store?.close()]);
  }
}
