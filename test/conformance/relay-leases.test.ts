/** What every store's relay leases do: one relay at a time, none for ever, and no stale one moves the position. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import pg from 'pg';
import { createPostgresRelayLeases } from '../../src/stores/postgres/postgres-event-store.ts';
import { EventKeys } from '../../src/stores/redis/keys.ts';
import { createRedisRelayLeases } from '../../src/stores/redis/redis-event-store.ts';
import type { RelayLease, RelayLeases } from '../../src/stores/relay-lease.ts';
import { systemTime } from '../../src/time.ts';
import { usePooler } from '../support/pgbouncer-node.ts';
import { needsPgBouncer, needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';

interface Harness {
  /** Another relay of the same stream. */
  open(leaseMs?: number): RelayLeases;
  /** As if the lease had run out while its holder was stopped. */
  expire(): Promise<void>;
  /** As if the store had lost that anybody took it. */
  forget(): Promise<void>;
}

const noSignal = new AbortController().signal;
const taken = async (leases: RelayLeases): Promise<RelayLease> => (await leases.acquire(noSignal))!;

const cases: Readonly<Record<string, (harness: Harness) => Promise<void>>> = {
  'one has the lease; the next one gets it when it is given back, and begins where the first had come to': async ({ open }) => {
    const first = await taken(open());
    assert.equal(first.position, 0);
    let second: RelayLease | null = null;
    const waiting = taken(open()).then((lease) => (second = lease));
    assert.equal(await first.advance(7), true);
    const others = open();
    assert.equal(await others.acquire(AbortSignal.timeout(600)), null, 'an aborted waiting');
    assert.equal(second, null);
    await first.release();
    assert.equal((await waiting).position, 7);
  },

  'of ten that ask at the same time one gets it': async ({ open }) => {
    const end = new AbortController();
    const got: RelayLease[] = [];
    const asking = Array.from({ length: 10 }, () =>
      open()
        .acquire(end.signal)
        .then((lease) => lease !== null && got.push(lease)),
    );
    await waitFor(() => got.length > 0, { what: 'somebody with the lease', timeoutMs: 60_000 });
    end.abort();
    await Promise.all(asking);
    assert.equal(got.length, 1);
  },

  'a relay that died loses it: the next one gets it when it has run out': async ({ open }) => {
    const dead = open(1_000);
    const lease = await taken(dead);
    assert.equal(await lease.advance(3), true);
    // From now on it gives no sign of life.
    await dead.close();
    const next = await taken(open());
    assert.equal(next.position, 3);
    await waitFor(() => lease.lost.aborted, { what: 'the dead one to know it, if it still knew anything', timeoutMs: 60_000 });
  },

  'a lease is kept for longer than it lasts as long as its holder lives': async ({ open }) => {
    const lease = await taken(open(4_000));
    assert.equal(await open().acquire(AbortSignal.timeout(6_000)), null);
    assert.equal(lease.lost.aborted, false);
    assert.equal(await lease.advance(1), true);
  },

  'a stale relay cannot move the position, and learns that it is stale': async ({ open, expire }) => {
    const stale = await taken(open());
    await stale.advance(5);
    await expire();
    const next = await taken(open());
    assert.equal(await next.advance(9), true);
    assert.equal(await stale.advance(6), false);
    assert.equal(stale.lost.aborted, true);
    await stale.release();
    assert.equal(await next.advance(10), true, 'and gives nothing back that is not its own');
    assert.equal((await taken(await next.release().then(() => open()))).position, 10);
  },

  'a store that lost its tail gives an epoch out twice: whoever had it first cannot move the position': async ({ open, forget }) => {
    const stale = await taken(open());
    await forget();
    const next = await taken(open());
    assert.equal(await stale.advance(6), false);
    assert.equal(await next.advance(1), true);
    assert.equal(stale.lost.aborted, true);
  },

  'whose lease has run out may go on while nobody has taken it': async ({ open, expire }) => {
    const lease = await taken(open());
    await expire();
    assert.equal(await lease.advance(2), true);
    assert.equal(await open().acquire(AbortSignal.timeout(500)), null);
  },
};

function describeLeases(
  name: string,
  openHarness: (t: TestContext) => Promise<Harness>,
  { skip = false }: { readonly skip?: boolean | string } = {},
): void {
  describe(name, { skip }, () => {
    for (const [sentence, run] of Object.entries(cases)) it(sentence, async (t) => run(await openHarness(t)));
  });
}

/** Closed after the test. */
function kept(t: TestContext, leases: RelayLeases): RelayLeases {
  t.after(() => leases.close());
  return leases;
}

function postgresHarness(t: TestContext, url: string): Harness {
  const stream = uniqueStream();
  const ask = async (statement: string) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(statement, [stream]);
    await client.end();
  };
  return {
    open: (leaseMs) => kept(t, createPostgresRelayLeases({ url, stream, leaseMs, time: systemTime })),
    expire: () => ask('UPDATE inorder.relays SET lease_until_ms = 0 WHERE stream = $1'),
    forget: () => ask('DELETE FROM inorder.relays WHERE stream = $1'),
  };
}

describeLeases('relay leases in PostgreSQL', async (t) => postgresHarness(t, await usePostgres()), needsPostgres);
describeLeases('relay leases in PostgreSQL behind a pooler', async (t) => postgresHarness(t, await usePooler(t)), needsPgBouncer);
describeLeases('relay leases in Redis', async (t) => {
  const { redisUrl: url } = await useServices(t);
  const stream = uniqueStream();
  const key = new EventKeys(stream).relay;
  const client = new Redis(url);
  t.after(() => client.disconnect());
  return {
    open: (leaseMs) => kept(t, createRedisRelayLeases({ url, stream, leaseMs, time: systemTime })),
    expire: async () => void (await client.hset(key, 'u', '0')),
    forget: async () => void (await client.del(key)),
  };
});
