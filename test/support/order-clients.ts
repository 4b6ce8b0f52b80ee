/**
 * A program for tests: twenty clients that give commands to five hundred orders at the same time, each to every fourth of them.
 * Their ids are always the same, so that whoever was killed can be started again. It ends with 0 when every command has its
 * outcome; a store that is away is waited for.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createEventStore, createRepository, orderAggregate, UnavailableError, VersionConflictError } from '../../src/index.ts';

const { EVENT_STORE, DATABASE_URL = '', REDIS_URL = '', STREAM = '' } = process.env;
const clients = 20;
const orders = 500;

const store = createEventStore(
  EVENT_STORE === 'postgres' ? { postgres: { url: DATABASE_URL, stream: STREAM } } : { redis: { url: REDIS_URL, stream: STREAM } },
);
const repository = createRepository(orderAggregate(), store, { maxAttempts: 50, snapshotEvery: 3 });

type Give = Parameters<typeof repository.handle>;

async function give(...command: Give): Promise<string | null> {
  for (;;) {
    try {
      const handled = await repository.handle(...command);
      return handled.status === 'refused' ? handled.code : null;
    } catch (error) {
      if (!(error instanceof UnavailableError) && !(error instanceof VersionConflictError)) throw error;
      await sleep(50);
    }
  }
}

async function beClient(client: number): Promise<void> {
  for (let order = client % 4; order < orders; order += 4) {
    const id = `order-${order}`;
    const item = { sku: `sku-${client}`, quantity: 1, price: 1.25 };
    if ((await give(id, { id: `item-${client}`, type: 'AddItem', data: item })) === 'not_created') {
      await give(id, { id: 'create', type: 'CreateOrder', data: { items: [item] } });
      await give(id, { id: `item-${client}`, type: 'AddItem', data: item });
    }
    // Some end while others still add to them.
    if (client >= 16) await give(id, { id: `end-${client}`, type: order % 3 === 0 ? 'CancelOrder' : 'CompleteOrder' });
  }
}

process.stdout.write('giving commands\n');
await Promise.all(Array.from({ length: clients }, (_, client) => beClient(client)));
await store.close();
