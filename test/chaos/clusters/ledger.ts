/**
 * What was published, and what became of it. It knows what was published, reads the store and is told what is left in the queues; it
 * believes no metric and no log: entity by entity the applied log has to read e1, e2, … to the last event that was published, each once.
 */
import { appendFile } from 'node:fs/promises';
import type { EntityRef } from '../../../src/events/event.ts';
import { createRedisStore } from '../../../src/stores/redis/redis-store.ts';
import { batched, type Store } from '../../../src/stores/store.ts';
import { bodyOf, type TraceEvent } from '../../support/trace.ts';

const entitiesPerLoad = 200;
const wrongShown = 10;

export interface Account {
  readonly published: number;
  /** The sum of the versions. */
  readonly applied: number;
  /** Entities that have not reached what was published: id and version. */
  readonly behind: ReadonlyMap<string, number>;
  /** Sentences about what may never be: doubled, misordered, unknown, parked though complete. */
  readonly wrong: readonly string[];
}

type ReadStore = Pick<Store, 'listEntities' | 'load' | 'close'>;

/** What the queues hold at the end. */
export interface Remains {
  /** Messages in the shards. */
  readonly waiting: number;
  readonly unrouted: number;
  /** Bodies of the dead letters. */
  readonly letters: readonly string[];
}

export class Ledger {
  /** One event per line, as `inorder publish` and `inorder recover` read them. */
  readonly file: string;
  /** The bodies of messages that are no events. */
  readonly poison = new Set<string>();
  readonly #openStore: () => ReadStore;
  /** By entity, the number of events that were published. */
  readonly #published = new Map<string, number>();

  constructor(file: string, openStore: () => ReadStore) {
    this.file = file;
    this.#openStore = openStore;
  }

  get published(): number {
    return sumOf(this.#published.values());
  }

  /** Whole lives of entities, before they are published; whoever notes something publishes it until the broker has confirmed it. */
  async note(events: readonly TraceEvent[]): Promise<void> {
    const begun = new Set(this.#published.keys());
    for (const { entityId, sequence } of events) {
      const length = this.#published.get(entityId) ?? 0;
      if (begun.has(entityId) || sequence !== length + 1) throw new Error(`event ${sequence} of ${entityId} is noted behind ${length}`);
      this.#published.set(entityId, sequence);
    }
    await appendFile(this.file, linesOf(events));
  }

  async account(): Promise<Account> {
    return accountIn(this.#openStore(), this.#published);
  }

  /** Empty, if everything that was published is applied once and in order, and nothing is left but what is no event. */
  verdict({ behind, wrong }: Account, { waiting, unrouted, letters }: Remains): readonly string[] {
    const problems = [...wrong];
    const [first] = behind;
    if (first !== undefined) problems.push(`${behind.size} entities are behind what was published, such as ${first[0]} at ${first[1]}`);
    if (waiting > 0) problems.push(`${waiting} messages are left in the shards`);
    if (unrouted > 0) problems.push(`${unrouted} messages were not routed`);
    const strange = letters.filter((text) => !this.poison.has(text));
    if (strange.length > 0) problems.push(`${strange.length} dead letters are left, such as ${strange[0]}`);
    const missing = [...this.poison].filter((text) => !letters.includes(text));
    if (missing.length > 0) problems.push(`${missing.length} messages that are no events are gone, such as ${missing[0]}`);
    return problems;
  }
}

/** `published`: the number of events of each entity. */
export function accountOf(
  { url, stream }: { readonly url: string; readonly stream: string },
  published: ReadonlyMap<string, number>,
): Promise<Account> {
  return accountIn(createRedisStore({ url, stream, idempotencyTtlSeconds: 3_600 }), published);
}

async function accountIn(store: ReadStore, published: ReadonlyMap<string, number>): Promise<Account> {
  // A scan may name an entity twice.
  const versions = new Map<string, number>();
  const wrong: string[] = [];
  try {
    for await (const entities of batched(store.listEntities({}), entitiesPerLoad)) {
      const refs: readonly EntityRef[] = entities.map(({ entityType, entityId }) => ({ entityType, entityId }));
      for (const [index, loaded] of (await store.load(refs)).entries()) {
        const { entityId } = refs[index]!;
        if (loaded.status === 'failed') throw loaded.error;
        const { version, state, parked } = loaded.snapshot;
        const target = published.get(entityId);
        const types: readonly string[] = state === null ? [] : JSON.parse(state).types;
        const at = types.findIndex((type, place) => type !== `e${place + 1}`);
        if (target === undefined) wrong.push(`${entityId} was never published`);
        else if (version > target) wrong.push(`${entityId} is at ${version}, and ${target} events were published`);
        if (at !== -1) wrong.push(`${entityId}: ${types.slice(Math.max(0, at - 2), at + 3).join(' ')} at place ${at + 1}`);
        if (types.length !== version) wrong.push(`${entityId}: version ${version} with ${types.length} events`);
        if (version === target && parked !== null) wrong.push(`${entityId} is complete, and parked`);
        versions.set(entityId, version);
      }
    }
  } finally {
    await store.close();
  }
  const behind = new Map<string, number>();
  for (const [entityId, length] of published) {
    const version = versions.get(entityId) ?? 0;
    if (version < length) behind.set(entityId, version);
  }
  return { published: sumOf(published.values()), applied: sumOf(versions.values()), behind, wrong: wrong.slice(0, wrongShown) };
}

export function linesOf(events: readonly TraceEvent[]): string {
  return events.map((event) => `${bodyOf(event).toString()}\n`).join('');
}

function sumOf(numbers: Iterable<number>): number {
  return [...numbers].reduce((sum, number) => sum + number, 0);
}
