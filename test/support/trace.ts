/**
 * A stream whose outcome can be checked without trusting the code under test: the n-th event of an entity has the
 * type `e<n>`, and the `history` processor keeps the types in the order in which they were applied. An entity
 * is right when its list reads e1, e2, … up to its length, each once.
 */
import amqp from 'amqplib';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { waitFor } from './services.ts';

export interface TraceEvent {
  readonly entityId: string;
  readonly sequence: number;
}

/** `entities` × `length` events; the sequences of each entity go up, the entities take turns. */
export function interleaved(entities: number, length: number, prefix = 'entity'): TraceEvent[] {
  const events: TraceEvent[] = [];
  for (let sequence = 1; sequence <= length; sequence++) {
    for (let entity = 0; entity < entities; entity++) events.push({ entityId: `${prefix}-${entity}`, sequence });
  }
  return events;
}

/** Moves events by up to `window` places, the same way for the same seed (a linear congruential generator). */
export function shuffled<T>(events: readonly T[], window: number, seed = 1): T[] {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  return events
    .map((event, index) => ({ event, key: index + random() * window }))
    .sort((a, b) => a.key - b.key)
    .map(({ event }) => event);
}

export function bodyOf({ entityId, sequence }: TraceEvent, data: unknown = { n: sequence }): Buffer {
  const id = `${entityId}/${sequence}`;
  return Buffer.from(JSON.stringify({ id, entity_type: 'trace', entity_id: entityId, sequence, type: `e${sequence}`, data }));
}

/** Publishes over a connection of its own and resolves when the broker has confirmed everything. */
export async function publishTrace(amqpUrl: string, exchange: string, events: Iterable<TraceEvent>): Promise<void> {
  const connection = await amqp.connect(amqpUrl);
  try {
    const channel = await connection.createConfirmChannel();
    let unconfirmed = 0;
    for (const event of events) {
      channel.publish(exchange, event.entityId, bodyOf(event), { persistent: true, contentType: 'application/json' });
      if (++unconfirmed % 1_000 === 0) await channel.waitForConfirms();
    }
    await channel.waitForConfirms();
  } finally {
    await connection.close();
  }
}

/** The store at a URL of either kind. */
function storeAt(url: string, stream: string): Store {
  const options = { url, stream, idempotencyTtlSeconds: 3_600 };
  return url.startsWith('postgres') ? createPostgresStore(options) : createRedisStore(options);
}

/** Reads every entity of the stream: its version and the types that were applied, in order. */
export async function readTraces(
  storeUrl: string,
  stream: string,
): Promise<Map<string, { version: number; types: string[]; parked: boolean }>> {
  const store = storeAt(storeUrl, stream);
  try {
    const traces = new Map<string, { version: number; types: string[]; parked: boolean }>();
    for await (const entity of store.listEntities({})) {
      const [loaded] = await store.load([entity]);
      if (loaded?.status !== 'ok') continue;
      const { version, state, parked } = loaded.snapshot;
      traces.set(entity.entityId, { version, types: state === null ? [] : JSON.parse(state).types, parked: parked !== null });
    }
    return traces;
  } finally {
    await store.close();
  }
}

/** What is wrong with the traces: sequences applied twice, out of order or with a gap. Empty when all is well. */
export function wrongTraces(traces: ReadonlyMap<string, { readonly version: number; readonly types: readonly string[] }>): string[] {
  const wrong: string[] = [];
  for (const [entityId, { version, types }] of traces) {
    const at = types.findIndex((type, index) => type !== `e${index + 1}`);
    if (at !== -1) wrong.push(`${entityId}: ${types.slice(Math.max(0, at - 2), at + 3).join(' ')} at place ${at + 1}`);
    if (version !== types.length) wrong.push(`${entityId}: version ${version} with ${types.length} events`);
  }
  return wrong;
}

/** Waits until every entity has reached `length`, and returns the traces. Fails at once when one is wrong. */
export async function untilApplied(storeUrl: string, stream: string, entities: number, length: number, timeoutMs = 60_000) {
  let last = 'nothing yet';
  return waitFor(
    async () => {
      const traces = await readTraces(storeUrl, stream);
      const wrong = wrongTraces(traces);
      if (wrong.length > 0) throw new Error(wrong.slice(0, 5).join('; '));
      const whole = [...traces.values()].filter(({ version }) => version === length).length;
      last = `${whole} of ${entities} entities`;
      return whole === entities ? traces : null;
    },
    { what: `every event applied (${last})`, timeoutMs },
  );
}

/** Messages ready in a queue: what nobody holds. */
export async function readyCount(amqpUrl: string, queue: string): Promise<number> {
  const connection = await amqp.connect(amqpUrl);
  try {
    const channel = await connection.createChannel();
    return (await channel.checkQueue(queue)).messageCount;
  } finally {
    await connection.close();
  }
}
