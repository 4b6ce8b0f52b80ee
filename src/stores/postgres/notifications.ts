/**
 * PostgreSQL's NOTIFY, on a separate connection that is opened for the first waiter. There is no guarantee: a notification may be
 * lost with the connection, so every waiter also looks again after a while.
 *
 * Behind a pooler LISTEN does not work: it belongs to a connection of the server, which the pooler gives to others. It is
 * not used there, and waiters look more often.
 */
import type pg from 'pg';
import type { Time } from '../../time.ts';
import { VerifyingClient } from './database.ts';

const lookAgainMs = { listening: 2_000, notListening: 250 };

/** A waiter for the next notification. */
export interface Wait {
  /** Resolves at the next notification, or when it is time to look again. Never rejects. */
  readonly over: Promise<void>;
  /** Ends the wait. Safe to call twice. */
  end(): void;
}

export class Notifications {
  readonly #url: string;
  readonly #channel: string;
  readonly #name: string;
  readonly #time: Time;
  readonly #waiting = new Set<(payload: string) => void>();
  #client: Promise<pg.Client | null> | null = null;
  #isPooled = false;
  #closed = false;

  constructor(url: string, channel: string, time: Time, name: string) {
    this.#name = name;
    this.#url = url;
    this.#channel = channel;
    this.#time = time;
  }

  /** Waits for the next notification with this payload. None that follows the resolution of this call is missed. Never rejects. */
  async wait(payload: string): Promise<Wait> {
    const isListening = (await this.#listen()) !== null;
    let end = () => {};
    const over = new Promise<void>((resolve) => {
      end = () => {
        timer.cancel();
        this.#waiting.delete(onNotification);
        resolve();
      };
      const onNotification = (one: string) => {
        if (one === payload) end();
      };
      const timer = this.#time.after(isListening ? lookAgainMs.listening : lookAgainMs.notListening, end);
      this.#waiting.add(onNotification);
    });
    return { over, end };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#client)?.end().catch(() => undefined);
  }

  #listen(): Promise<pg.Client | null> {
    if (this.#closed || this.#isPooled) return Promise.resolve(null);
    this.#client ??= this.#connect();
    return this.#client;
  }

  async #connect(): Promise<pg.Client | null> {
    const client = new VerifyingClient({
      connectionString: this.#url,
      application_name: this.#name,
      keepAlive: true,
      connectionTimeoutMillis: lookAgainMs.listening,
    });
    const gone = () => {
      this.#client = null;
    };
    client.on('error', gone);
    client.on('end', gone);
    client.on('notification', ({ payload = '' }) => {
      for (const onNotification of [...this.#waiting]) onNotification(payload);
    });
    try {
      await client.connect();
      // A pooler reports another process id for the connection than the server.
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      this.#isPooled = rows[0]?.pid !== (client as unknown as { readonly processID: number }).processID;
      if (!this.#isPooled) await client.query(`LISTEN ${this.#channel}`);
      if (!this.#isPooled) return client;
    } catch {
      // The waiters look again, and that opens the connection again.
    }
    this.#client = null;
    await client.end().catch(() => undefined);
    return null;
  }
}
