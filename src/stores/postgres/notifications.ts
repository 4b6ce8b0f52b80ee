/**
 * What PostgreSQL tells by NOTIFY, on a connection of its own that is opened when somebody waits for the first time. Nothing
 * is promised: a notification may be lost with the connection, so whoever waits looks again after a while.
 */
import pg from 'pg';

export class Notifications {
  readonly #url: string;
  readonly #channel: string;
  readonly #waiting = new Set<(payload: string) => void>();
  #client: Promise<pg.Client | null> | null = null;
  #closed = false;

  constructor(url: string, channel: string) {
    this.#url = url;
    this.#channel = channel;
  }

  /** Resolves when notifications are received, or cannot be now. Never rejects. */
  async ready(): Promise<void> {
    await this.#listen();
  }

  /** Resolves at the next notification with this payload, after `timeoutMs`, or when `signal` is aborted. Never rejects. */
  next(payload: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        this.#waiting.delete(told);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const told = (one: string) => {
        if (one === payload) finish();
      };
      const timer = setTimeout(finish, timeoutMs);
      this.#waiting.add(told);
      signal.addEventListener('abort', finish, { once: true });
      if (signal.aborted) finish();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#client)?.end().catch(() => undefined);
  }

  #listen(): Promise<pg.Client | null> {
    if (this.#closed) return Promise.resolve(null);
    this.#client ??= this.#connect();
    return this.#client;
  }

  async #connect(): Promise<pg.Client | null> {
    const client = new pg.Client({ connectionString: this.#url, application_name: 'inorder', keepAlive: true });
    const gone = () => {
      this.#client = null;
    };
    client.on('error', gone);
    client.on('end', gone);
    client.on('notification', ({ payload = '' }) => {
      for (const told of [...this.#waiting]) told(payload);
    });
    try {
      await client.connect();
      await client.query(`LISTEN ${this.#channel}`);
      return client;
    } catch {
      // Whoever waits looks again, and then it is tried again.
      this.#client = null;
      await client.end().catch(() => undefined);
      return null;
    }
  }
}
