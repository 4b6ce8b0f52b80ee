/** Relay leases in Redis: a lease that lasts for some seconds and is kept as long as its holder lives. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RelayLease, RelayLeases } from '../relay-lease.ts';
import { Connection } from './connection.ts';
import { EventKeys } from './event-keys.ts';
import { unavailable } from './failures.ts';
import { parseRedisUrl } from './redis-url.ts';
import { loadScript, runScript } from './script.ts';

export interface RedisRelayLeasesOptions {
  readonly url: string;
  readonly stream: string;
  /** How long after its holder's last sign of life the lease is free, in milliseconds. Default 10,000. */
  readonly leaseMs?: number;
}

const relayScript = loadScript('relay-1');
const defaultLeaseMs = 10_000;
const commandTimeoutMs = 5_000;
const pollMs = 250;

export class RedisRelayLeases implements RelayLeases {
  readonly #connection: Connection;
  readonly #key: string;
  readonly #leaseMs: number;

  constructor({ url, stream, leaseMs = defaultLeaseMs }: RedisRelayLeasesOptions) {
    this.#connection = new Connection({ target: parseRedisUrl(url), commandTimeoutMs, log: undefined, onReconnect: undefined });
    this.#key = new EventKeys(stream).relay;
    this.#leaseMs = leaseMs;
  }

  async acquire(signal: AbortSignal): Promise<RelayLease | null> {
    while (!signal.aborted) {
      const taken = await this.#ask('take', '');
      if (taken !== null) return this.#lease(taken.epoch, taken.position);
      await sleep(pollMs, undefined, { signal }).catch(() => undefined);
    }
    return null;
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  #lease(epoch: string, position: number): RelayLease {
    const lost = new AbortController();
    let keptAtMs = performance.now();
    const keep = async () => {
      const kept = await this.#ask('keep', epoch).catch(() => undefined);
      if (kept !== null && kept !== undefined) keptAtMs = performance.now();
      // What cannot be asked may still be ours, until it has run out by itself.
      else if (kept === null || performance.now() - keptAtMs > this.#leaseMs) lost.abort();
    };
    const keeping = setInterval(() => void keep(), this.#leaseMs / 4);
    lost.signal.addEventListener('abort', () => clearInterval(keeping), { once: true });
    return {
      position,
      lost: lost.signal,
      advance: async (to) => {
        const advanced = await this.#ask('advance', epoch, String(to));
        if (advanced === null) lost.abort();
        return advanced !== null;
      },
      release: async () => {
        clearInterval(keeping);
        await this.#ask('release', epoch).catch(() => undefined);
      },
    };
  }

  /** Null when another one has the lease. */
  async #ask(what: 'take' | 'keep' | 'advance' | 'release', epoch: string, position = '0'): Promise<{ readonly epoch: string; readonly position: number } | null> {
    const [reply] = await runScript(this.#connection, relayScript, [[this.#key, what, epoch, String(this.#leaseMs), position]]);
    if (reply?.[0]) throw unavailable(this.#connection.where, reply[0]);
    const [found, at] = reply?.[1] as [string?, string?];
    return found === undefined ? null : { epoch: found, position: Number(at) };
  }
}
