/**
 * The demo's accounts, from where things are: what was applied from the versions in the store, what was dead-lettered
 * from the messages in the dead-letter queue, what is left from the queues. Counters of workers are not used, for
 * one of them was killed. Duplicates leave no trace but the difference, which has to be the expected number.
 */
import type { DeadLetter } from '../../src/dead-letters/dead-letter.ts';
import type { Store } from '../../src/stores/store.ts';
import { type Expectation, wrongOrder } from './expectation.ts';
import type { Faults } from './faults.ts';

export interface Ledger {
  readonly confirmed: number;
  readonly applied: number;
  /** Confirmed, but neither applied nor dead-lettered. */
  readonly duplicates: number;
  readonly deadLettered: number;
  readonly byReason: ReadonlyMap<string, number>;
  readonly orders: number;
  /** Orders with exactly the version and the state that were computed. */
  readonly ordersRight: number;
  /** One sentence for each thing that is not as it must be; empty when everything balances. */
  readonly problems: readonly string[];
}

/** Messages that lie ready in the queues. */
export interface Depths {
  /** Of all shards together. */
  readonly shards: number;
  readonly deadLetters: number;
  readonly unrouted: number;
}

export interface LedgerSources {
  readonly confirmed: number;
  readonly expectation: Expectation;
  readonly faults: Faults;
  readonly depths: Depths;
  readonly deadLetters: readonly DeadLetter[];
  readonly store: Pick<Store, 'load' | 'listEntities'>;
}

interface StoredOrder {
  readonly version: number;
  readonly state: string | null;
  readonly parked: boolean;
}

const batchSize = 500;

export async function balance({ confirmed, expectation, faults, depths, deadLetters, store }: LedgerSources): Promise<Ledger> {
  const stored = await readOrders(store, [...expectation.orders.keys()]);
  const applied = await sumOfVersions(store);
  const wrong = [...expectation.orders].flatMap(([orderId, expected]) => {
    const { version, state } = stored.get(orderId) ?? { version: 0, state: null };
    return wrongOrder(orderId, expected, version, state) ?? [];
  });
  const duplicates = confirmed - applied - deadLetters.length;
  const problems = [
    ...firstFew(wrong),
    ...differs('applied events', applied, expectation.applied),
    ...differs('duplicates', duplicates, expectation.duplicates),
    ...differs('dead letters', deadLetters.length, expectation.deadLettered),
    ...differs('messages left in the shard queues', depths.shards, 0),
    ...differs('messages that no queue took', depths.unrouted, 0),
    ...firstFew(wrongLetters(deadLetters, expectation)),
    ...firstFew(wrongReasons(deadLetters, faults)),
    ...wrongParking(stored, faults),
  ];
  const byReason = new Map<string, number>();
  for (const { reason } of deadLetters) byReason.set(reason, (byReason.get(reason) ?? 0) + 1);
  const orders = expectation.orders.size;
  return {
    confirmed,
    applied,
    duplicates,
    deadLettered: deadLetters.length,
    byReason,
    orders,
    ordersRight: orders - wrong.length,
    problems,
  };
}

async function readOrders(store: Pick<Store, 'load'>, orderIds: readonly string[]): Promise<Map<string, StoredOrder>> {
  const stored = new Map<string, StoredOrder>();
  for (let at = 0; at < orderIds.length; at += batchSize) {
    const batch = orderIds.slice(at, at + batchSize);
    const results = await store.load(batch.map((entityId) => ({ entityType: 'order', entityId })));
    for (const [index, result] of results.entries()) {
      if (result.status === 'failed') throw result.error;
      const { version, state, parked } = result.snapshot;
      stored.set(batch[index] ?? '', { version, state, parked: parked !== null });
    }
  }
  return stored;
}

/** Over everything that the store lists, so that an entity which nobody expects is counted too. */
async function sumOfVersions(store: Pick<Store, 'listEntities'>): Promise<number> {
  const versions = new Map<string, number>();
  for await (const { entityType, entityId, version } of store.listEntities({})) versions.set(`${entityType} ${entityId}`, version);
  return [...versions.values()].reduce((sum, version) => sum + version, 0);
}

/** Exactly the messages that were expected, each as often. */
function wrongLetters(deadLetters: readonly DeadLetter[], { deadLetters: expected }: Expectation): string[] {
  const found = new Map<string, number>();
  for (const { messageId } of deadLetters) found.set(messageId, (found.get(messageId) ?? 0) + 1);
  const ids = new Set([...found.keys(), ...expected.keys()]);
  return [...ids].flatMap((id) => differs(`dead letters with the id ${id}`, found.get(id) ?? 0, expected.get(id) ?? 0));
}

function wrongReasons(deadLetters: readonly DeadLetter[], { lost, failing, malformed }: Faults): string[] {
  const allowed = ({ messageId, entityId, sequence }: DeadLetter): readonly string[] => {
    if (messageId === malformed.id) return ['malformed'];
    if (entityId === failing.orderId) return sequence === failing.sequence ? ['handler_failed'] : ['entity_parked'];
    // What arrives after the gap has ended follows into the dead-letter queue.
    return lost.some(({ orderId }) => orderId === entityId) ? ['gap_timeout', 'entity_parked'] : [];
  };
  return deadLetters
    .filter((letter) => !allowed(letter).includes(letter.reason))
    .map(({ messageId, reason }) => `${messageId} was dead-lettered as ${reason}`);
}

function wrongParking(stored: ReadonlyMap<string, StoredOrder>, { lost, failing }: Faults): string[] {
  const expected = [...lost, failing].map(({ orderId }) => orderId).sort();
  const parked = [...stored]
    .filter(([, order]) => order.parked)
    .map(([orderId]) => orderId)
    .sort();
  return parked.join() === expected.join() ? [] : [`parked are ${parked.join(', ') || 'none'}, and not ${expected.join(', ')}`];
}

function differs(what: string, actual: number, expected: number): string[] {
  return actual === expected ? [] : [`${what}: ${actual} instead of ${expected}`];
}

function firstFew(problems: readonly string[]): string[] {
  const shown = 5;
  return problems.length <= shown ? [...problems] : [...problems.slice(0, shown), `… and ${problems.length - shown} more like these`];
}
