/**
 * Reads the dead letters and changes nothing: lists them, finds one with its status, groups them by entity, and finds the entities
 * whose missing event has arrived. The queue stays unchanged (see `queue-reading.ts`); the records of a page are read in
 * one call; memory is bounded by a page and the groups.
 */
import type { ChannelModel } from 'amqplib';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import type { FirstSequence } from '../ordering/limits.ts';
import { toRawMessage } from '../rabbitmq/consuming-channel.ts';
import { deadLetterQueueName, shardQueueName } from '../rabbitmq/topology-plan.ts';
import { snapshotsOf, type Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { type DeadLetter, explain, isNamed, isWaiting, readLetter } from './dead-letter.ts';
import { peek } from './queue-reading.ts';
import { type LettersOfEntity, type LetterStatus, type LetterSummary, statusOf, summaryOf } from './replay-plan.ts';

export interface InspectOptions {
  readonly connection: Pick<ChannelModel, 'createChannel'>;
  readonly stream: string;
  readonly store: Pick<Store, 'findDeadLetters'>;
  /** As the stream's workers decode. */
  readonly decoding: DecodeOptions;
  /** Most letters to read, from the head of the queue. Default: all. */
  readonly limit?: number;
  readonly pageSize?: number;
  /** Ends the reading after the present page, so that everything is given back in order. */
  readonly signal?: AbortSignal;
  readonly time: Time;
}

export interface FindOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load'>;
  /** As the stream's workers have it. */
  readonly firstSequence: FirstSequence;
}

/**
 * The dead letters that are in the queue now, oldest first, page by page.
 * @throws UnavailableError when the queue does not exist, or broker or store become unavailable.
 */
export async function* listDeadLetters(options: InspectOptions): AsyncGenerator<readonly DeadLetter[], void, void> {
  const { connection, stream, store, decoding, limit, pageSize, signal, time } = options;
  const queue = deadLetterQueueName(stream);
  for await (const messages of peek(connection, { queue, limit, pageSize, time })) {
    const letters = messages.map((message) => readLetter(toRawMessage(message), (raw) => decodeMessage(raw, decoding)));
    const records = await store.findDeadLetters(letters.map(({ query }) => query));
    yield letters.map((letter, index) => explain(letter, records[index] ?? null, (name) => shardOf(stream, name)));
    if (signal?.aborted) return;
  }
}

/** A dead letter with its status; null if it names no entity. */
export interface FoundLetter {
  readonly letter: DeadLetter;
  readonly status: LetterStatus | null;
}

/** Every dead letter that `id` names, oldest first: an event may have been dead-lettered in several copies. */
export async function findDeadLetters(id: string, options: FindOptions): Promise<readonly FoundLetter[]> {
  const found: DeadLetter[] = [];
  const entities = new EntityLetters();
  for await (const letters of listDeadLetters(options)) {
    for (const letter of letters) entities.add(summaryOf(letter), true);
    found.push(...letters.filter((letter) => isNamed(letter, id)));
  }
  const statuses = found.map(async (letter): Promise<FoundLetter> => {
    const letters = entities.of(letter);
    if (letters === null) return { letter, status: null };
    const [snapshot] = await snapshotsOf(options.store, [letters.entity]);
    return { letter, status: statusOf(summaryOf(letter), letters, snapshot!, options.firstSequence) };
  });
  return Promise.all(statuses);
}

export interface ReadyOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load'>;
  /** Only letters from these shards. */
  readonly shards: ReadonlySet<number>;
  /** The reading ends when this many entities are found. */
  readonly maxEntities: number;
}

export interface ReadyEntities {
  readonly entities: readonly EntityRef[];
  /** False when there may be more. */
  readonly complete: boolean;
}

/**
 * Entities that are parked, not being replayed, and whose next event is a dead letter that only lacked a predecessor.
 * @throws UnavailableError when broker or store become unavailable.
 */
export async function findReadyEntities(options: ReadyOptions): Promise<ReadyEntities> {
  const { shards, store, maxEntities, signal } = options;
  const found = new Map<string, EntityRef>();
  for await (const letters of listDeadLetters(options)) {
    const waiting = letters.filter(isWaiting).filter(({ shard }) => shard !== null && shards.has(shard));
    const snapshots = await snapshotsOf(store, waiting);
    for (const [index, { entityType, entityId, sequence }] of waiting.entries()) {
      const { version, parked } = snapshots[index]!;
      if (parked === null || parked.replaying || sequence !== version + 1) continue;
      found.set(entityKey({ entityType, entityId }), { entityType, entityId });
    }
    if (found.size >= maxEntities) return { entities: [...found.values()], complete: false };
  }
  return { entities: [...found.values()], complete: signal?.aborted !== true };
}

/**
 * Collects summaries of dead letters by entity. A letter whose sequence cannot be read is listed with every entity of its id:
 * it may be the event that one of them waits for.
 */
export class EntityLetters {
  readonly #byName = new Map<string, LettersOfEntity>();
  /** By entity id. */
  readonly #unread = new Map<string, LetterSummary[]>();

  /** `isMatched` decides to which of the entity's lists it is added. False when it has no entity or no sequence. */
  add(letter: LetterSummary, isMatched: boolean): boolean {
    const { entityType, entityId, sequence } = letter;
    if (entityType === null || entityId === null || sequence === null) {
      if (entityId !== null) this.#unreadOf(entityId).push(letter);
      return false;
    }
    const name = entityKey({ entityType, entityId });
    let letters = this.#byName.get(name);
    if (letters === undefined) {
      letters = { entity: { entityType, entityId }, matched: [], others: [], unread: this.#unreadOf(entityId) };
      this.#byName.set(name, letters);
    }
    (isMatched ? letters.matched : letters.others).push(letter);
    return true;
  }

  of({ entityType, entityId }: Pick<LetterSummary, 'entityType' | 'entityId'>): LettersOfEntity | null {
    return entityType === null || entityId === null ? null : (this.#byName.get(entityKey({ entityType, entityId })) ?? null);
  }

  unreadOf(entityId: string): readonly LetterSummary[] {
    return this.#unread.get(entityId) ?? [];
  }

  all(): readonly LettersOfEntity[] {
    return [...this.#byName.values()];
  }

  #unreadOf(entityId: string): LetterSummary[] {
    const unread = this.#unread.get(entityId) ?? [];
    if (unread.length === 0) this.#unread.set(entityId, unread);
    return unread;
  }
}

function shardOf(stream: string, queue: string): number | null {
  const shard = Number(/\d+$/.exec(queue)?.[0]);
  return Number.isSafeInteger(shard) && shardQueueName(stream, shard) === queue ? shard : null;
}
