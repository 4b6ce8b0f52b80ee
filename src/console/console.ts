/**
 * The console: the files of its page and its API, as routes for an HTTP server: `/` and everything below
 * `/console/`, each with its guard.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { ChannelModel } from 'amqplib';
import { type Config, connectionName } from '../config/config.ts';
import { DeadLetters, letterSettings } from '../dead-letters/dead-letters.ts';
import { KeptBroker, withConnection } from '../dead-letters/letter-broker.ts';
import { ConfigError } from '../errors.ts';
import { type Gate, hasUsers, isLoopback } from '../observability/gate.ts';
import type { Answer, Route } from '../observability/http.ts';
import type { Log } from '../observability/log.ts';
import { openStore } from '../stores/open-store.ts';
import type { Store } from '../stores/store.ts';
import { systemTime, type Time } from '../time.ts';
import { apiRoutes } from './api.ts';
import { DeadLetterWork } from './change-work.ts';
import { Changes } from './changes.ts';
import { type AskedWorker, StreamView } from './stream-view.ts';

export interface ConsoleOptions {
  readonly config: Config;
  /** Returns the present status of the workers. */
  readonly workers: () => Promise<readonly AskedWorker[]>;
  readonly gate: Gate;
  readonly log: Log;
  /** Default: the system's clock. */
  readonly time?: Time;
}

export interface Console {
  readonly routes: readonly Route[];
  /** Stops running changes, and closes the console's connections. */
  close(): Promise<void>;
}

/** Why the console must not be served, because other machines could use it and nobody has to say who asks; null if it may be. */
export function consoleRefusal({ http }: Pick<Config, 'http'>): string | null {
  if (hasUsers(http) || isLoopback(http.host)) return null;
  return `HTTP_HOST is ${http.host}, which others can reach: the console needs ADMIN_TOKEN or other users there, or HTTP_HOST=127.0.0.1`;
}

/** @throws ConfigError with the reason of `consoleRefusal`. */
export function createConsole({ config, workers, gate, log, time = systemTime }: ConsoleOptions): Console {
  const refusal = consoleRefusal(config);
  if (refusal !== null) throw new ConfigError([refusal]);
  const sources = new Sources(config, log, time);
  const view = new StreamView({ config, sources, workers });
  const catalogue = () => view.catalogue.catalogue;
  const work = new DeadLetterWork({ letters: () => sources.letters, catalogue, onChanged: () => view.outdate() });
  const changes = new Changes(work, time);
  return {
    routes: [...pageRoutes(gate), ...apiRoutes({ view, changes, gate })],
    async close() {
      await changes.close();
      await sources.close();
    },
  };
}

/** One route per file, so no path leads anywhere else. */
export function pageRoutes(gate: Pick<Gate, 'admit'>): readonly Route[] {
  return [...loadPageFiles()].map(([name, file]) => {
    const path = name === 'index.html' ? '/' : `/console/${name}`;
    return { method: 'GET, HEAD', path, guard: gate.admit, answer: () => file };
  });
}

const contentTypes: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
};

/** The modules in the page's folder `vendor`, with their packages. */
const libraries: Readonly<Record<string, string>> = { 'vendor/preact.js': 'preact', 'vendor/htm.js': 'htm' };

/** The page's files by name, read once: everything in `page/`, and the two libraries from their packages. */
export function loadPageFiles(): ReadonlyMap<string, Answer> {
  const folder = new URL('./page/', import.meta.url);
  const ours = readdirSync(folder).map((name) => [name, new URL(name, folder)] as const);
  const theirs = Object.entries(libraries).map(([name, library]) => [name, new URL(import.meta.resolve(library))] as const);
  return new Map(
    [...ours, ...theirs].flatMap(([name, file]) => {
      const contentType = contentTypes[name.split('.').at(-1) ?? ''];
      return contentType === undefined ? [] : [[name, { status: 200, contentType, body: readFileSync(file) }]];
    }),
  );
}

/**
 * The console's own connections to broker and store, opened at the first request: a worker whose console is not used
 * has none of them. A lost connection is an error for waiting calls, and comes back by itself.
 */
class Sources {
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
    const names = { reading: connectionName('console', config), publishing: connectionName('console-replay', config) };
    this.#broker = new KeptBroker({ ...config.broker, names, log, time });
  }

  get store(): Store {
    this.#store ??= openStore(this.#config, { role: 'console', log: this.#log, time: this.time });
    return this.#store;
  }

  get letters(): DeadLetters {
    this.#letters ??= new DeadLetters({ ...letterSettings(this.#config), store: this.store, broker: this.#broker, time: this.time });
    return this.#letters;
  }

  /** @throws UnavailableError when there is no connection to the broker, or it is lost. */
  withBroker<T>(use: (connection: ChannelModel) => Promise<T>): Promise<T> {
    return withConnection(this.#broker, use);
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#broker.close(), this.#store?.close()]);
  }
}
