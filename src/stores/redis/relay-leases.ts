/** The lease of a stream's relay as a key in Redis, each step one script. */
import type { Time } from '../../time.ts';
import { type LeaseRow, type RelayLeases, StoredRelayLeases } from '../relay-lease.ts';
import { Connection } from './connection.ts';
import { EventKeys } from './keys.ts';
import { unavailable } from './failures.ts';
import { parseRedisUrl } from './redis-url.ts';
import { loadScript, runScript } from './script.ts';

export interface RedisRelayLeasesOptions {
  readonly url: string;
  readonly stream: string;
  /** How long after the last renewal the lease becomes free, in milliseconds. Default 10,000. */
  readonly leaseMs?: number;
  readonly time: Time;
}

const relayScript = loadScript('relay-1');
const defaultLeaseMs = 10_000;
const commandTimeoutMs = 5_000;

export function createRedisRelayLeases({ url, stream, leaseMs = defaultLeaseMs, time }: RedisRelayLeasesOptions): RelayLeases {
  const connection = new Connection({ target: parseRedisUrl(url), commandTimeoutMs, log: undefined, onReconnect: undefined, time });
  const key = new EventKeys(stream).relay;
  const row: LeaseRow = {
    async step(what, session, epoch, position) {
      const [reply] = await runScript(connection, relayScript, [[key, what, String(epoch), String(leaseMs), String(position), session]]);
      if (reply?.[0]) throw unavailable(connection.where, reply[0]);
      const [found, at] = (reply?.[1] ?? []) as [string?, string?];
      return found === undefined ? null : { epoch: Number(found), position: Number(at) };
    },
    close: () => connection.close(),
  };
  return new StoredRelayLeases(row, leaseMs, time);
}
