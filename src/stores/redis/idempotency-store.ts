/**
 * Idempotency records in Redis, one key per message, shared by all processes with the same prefix. Each call
 * is one atomic script. The record of a message is either a lease, while it is processed, or its result; both expire by
 * themselves.
 */
import type { Log } from '../../observability/log.ts';
import {
  type Begun,
  defaultIdempotencyLeaseMs,
  defaultIdempotencyTtlSeconds,
  type IdempotencyStore,
  type IdempotencyStoreOptions,
} from '../idempotency-store.ts';
import { systemTime } from '../../time.ts';
import type { TlsFiles } from '../../tls.ts';
import { Connection } from './connection.ts';
import { entityFailure, isEntityFailure, unavailable } from './failures.ts';
import { parseRedisUrl } from './redis-url.ts';
import { loadScript, runScript, type Script } from './script.ts';

export interface RedisIdempotencyStoreOptions extends IdempotencyStoreOptions {
  /** One of the forms of `redis-url.ts`. */
  readonly url: string;
  /** For `rediss`. Default: the authorities that Node.js trusts, and no certificate of the client. */
  readonly tls?: Partial<TlsFiles>;
  /** Prefix of every id. Handlers that may see the same ids need different prefixes. Default `inorder:idempotency:`. */
  readonly prefix?: string;
  /** How long one command, and the first connection, may take, in milliseconds. Default 5000. */
  readonly commandTimeoutMs?: number;
  /** Logs events of the connection, never ids or results. Default: none. */
  readonly log?: Pick<Log, 'info' | 'warn'>;
}

const defaultCommandTimeoutMs = 5_000;

const beginScript = loadScript('idempotency-begin-1');
const completeScript = loadScript('idempotency-complete-1');
const releaseScript = loadScript('idempotency-release-1');

/** Connects at once, in the background. Throws `ConfigError` when the URL is invalid. */
export function createRedisIdempotencyStore(options: RedisIdempotencyStoreOptions): IdempotencyStore {
  return new RedisIdempotencyStore(options);
}

class RedisIdempotencyStore implements IdempotencyStore {
  readonly #connection: Connection;
  readonly #prefix: string;
  readonly #ttlMs: string;
  readonly #leaseMs: string;

  constructor(options: RedisIdempotencyStoreOptions) {
    const { ttlSeconds = defaultIdempotencyTtlSeconds, leaseMs = defaultIdempotencyLeaseMs } = options;
    this.#connection = new Connection({
      target: parseRedisUrl(options.url, options.tls),
      commandTimeoutMs: options.commandTimeoutMs ?? defaultCommandTimeoutMs,
      log: options.log,
      onReconnect: undefined,
      time: options.time ?? systemTime,
    });
    this.#prefix = options.prefix ?? 'inorder:idempotency:';
    this.#ttlMs = String(Math.ceil(ttlSeconds * 1000));
    this.#leaseMs = String(Math.ceil(leaseMs));
  }

  async begin(id: string): Promise<Begun> {
    const lease = this.#connection.time.uuid();
    const [status, value] = (await this.#run(beginScript, id, lease, this.#leaseMs)) as [Begun['status'], unknown?];
    if (status === 'started') return { status, lease };
    if (status === 'in-progress') return { status, leaseLeftMs: Math.max(0, Number(value)) };
    return { status, result: typeof value === 'string' ? value : null };
  }

  async complete(id: string, lease: string, result: string | null): Promise<boolean> {
    const record = result === null ? 'd' : `r${result}`;
    return (await this.#run(completeScript, id, lease, record, this.#ttlMs)) === 1;
  }

  async release(id: string, lease: string): Promise<void> {
    await this.#run(releaseScript, id, lease);
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #run(script: Script, id: string, ...args: readonly string[]): Promise<unknown> {
    const key = this.#prefix + id;
    const [reply] = await runScript(this.#connection, script, [[key, ...args]]);
    const [error, value] = reply ?? [new Error('there was no reply')];
    if (error) throw isEntityFailure(error) ? entityFailure(key, error) : unavailable(this.#connection.where, error);
    return value;
  }
}
