/**
 * The lease of a stream's relay as a row in PostgreSQL, each step one statement. It does not depend on a connection, so it works
 * behind a pooler, which shares a connection among many clients.
 */
import type { Log } from '../../observability/log.ts';
import type { Time } from '../../time.ts';
import { type LeaseRow, type RelayLeases, StoredRelayLeases } from '../relay-lease.ts';
import { Database, clockMs } from './database.ts';

export interface PostgresRelayLeasesOptions {
  readonly url: string;
  readonly stream: string;
  readonly log?: Pick<Log, 'warn'>;
  /** How long after the last renewal the lease becomes free, in milliseconds. Default 10,000. */
  readonly leaseMs?: number;
  readonly time: Time;
}

interface Held {
  readonly epoch: number;
  readonly position: number;
}

const defaultLeaseMs = 10_000;

/** Read before it is locked, so that a waiting relay writes nothing. */
const take = `
  INSERT INTO inorder.relays AS r (stream, epoch, session, lease_until_ms)
  SELECT $1, 1, $3, ${clockMs} + $2::bigint WHERE NOT EXISTS (SELECT FROM inorder.relays WHERE stream = $1 AND lease_until_ms > ${clockMs})
  ON CONFLICT (stream) DO UPDATE SET epoch = r.epoch + 1, session = excluded.session, lease_until_ms = excluded.lease_until_ms WHERE r.lease_until_ms <= ${clockMs}
  RETURNING epoch, position`;

const keep = `
  UPDATE inorder.relays SET lease_until_ms = CASE WHEN $2::bigint = 0 THEN 0 ELSE ${clockMs} + $2 END, position = greatest(position, $4)
  WHERE stream = $1 AND epoch = $3 AND session = $5 RETURNING epoch, position`;

export function createPostgresRelayLeases(options: PostgresRelayLeasesOptions): RelayLeases {
  const { url, stream, log, leaseMs = defaultLeaseMs, time } = options;
  const database = new Database({ url, log, maxConnections: 1, answerTimeoutMs: leaseMs / 2, time });
  const row: LeaseRow = {
    async step(what, session, epoch, position) {
      const held =
        what === 'take'
          ? database.query<Held>(take, [stream, leaseMs, session])
          : database.query<Held>(keep, [stream, what === 'release' ? 0 : leaseMs, epoch, position, session]);
      return (await held)[0] ?? null;
    },
    close: () => database.close(),
  };
  return new StoredRelayLeases(row, leaseMs, time);
}
