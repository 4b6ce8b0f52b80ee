/**
 * Lists and finds dead letters. The queue stays as it is (see `queue-reading.ts`); the store is asked for a page's records in
 * one call; memory is bounded by a page.
 */
import type { ChannelModel } from 'amqplib';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import { toRawMessage } from '../rabbitmq/raw-message.ts';
import { deadLetterQueueName, shardQueueName } from '../rabbitmq/topology-plan.ts';
import type { Store } from '../stores/store.ts';
import { type DeadLetter, explain, isNamed, readLetter } from './dead-letter.ts';
import { EntityLetters } from './entity-letters.ts';
import { snapshotsOf } from './entity-snapshots.ts';
import { peek } from './queue-reading.ts';
import { summaryOf } from './replay-plan.ts';
import { type Standing, standingOf } from './standing.ts';

export interface InspectOptions {
  readonly connection: Pick<ChannelModel, 'createChannel'>;
  readonly stream: string;
  readonly store: Pick<Store, 'findDeadLetters'>;
  /** As the stream's workers decode. */
  readonly decoding: DecodeOptions;
  /** At most so many, from the head of the queue. Default: all. */
  readonly limit?: number;
  readonly pageSize?: number;
  /** Ends the reading after the present page, so that everything goes back in order. */
  readonly signal?: AbortSignal;
}

export interface FindOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load'>;
  /** As the stream's workers have it. */
  readonly firstSequence: Parameters<typeof standingOf>[3];
}

/**
 * The dead letters that are in the queue now, oldest first, page by page.
 * @throws UnavailableError when the queue does not exist, or broker or store go away.
 */
export async function* listDeadLetters(options: InspectOptions): AsyncGenerator<readonly DeadLetter[], void, void> {
  const { connection, stream, store, decoding, limit, pageSize, signal } = options;
  const queue = deadLetterQueueName(stream);
  for await (const messages of peek(connection, { queue, limit, pageSize })) {
    const letters = messages.map((message) => readLetter(toRawMessage(message), (raw) => decodeMessage(raw, decoding)));
    const records = await store.findDeadLetters(letters.map(({ query }) => query));
    yield letters.map((letter, index) => explain(letter, records[index] ?? null, (name) => shardOf(stream, name)));
    if (signal?.aborted) return;
  }
}

/** A dead letter with how it stands with its entity; null where it names none. */
export interface FoundLetter {
  readonly letter: DeadLetter;
  readonly standing: Standing | null;
}

/** Every dead letter that `id` means, oldest first: an event may have been dead-lettered in several copies. */
export async function findDeadLetters(id: string, options: FindOptions): Promise<readonly FoundLetter[]> {
  const found: DeadLetter[] = [];
  const entities = new EntityLetters();
  for await (const letters of listDeadLetters(options)) {
    for (const letter of letters) entities.add(summaryOf(letter), true);
    found.push(...letters.filter((letter) => isNamed(letter, id)));
  }
  const standings = found.map(async (letter): Promise<FoundLetter> => {
    const letters = entities.of(letter);
    if (letters === null) return { letter, standing: null };
    const [snapshot] = await snapshotsOf(options.store, [letters.entity]);
    return { letter, standing: standingOf(summaryOf(letter), letters, snapshot!, options.firstSequence) };
  });
  return Promise.all(standings);
}

function shardOf(stream: string, queue: string): number | null {
  const shard = Number(/\d+$/.exec(queue)?.[0]);
  return Number.isSafeInteger(shard) && shardQueueName(stream, shard) === queue ? shard : null;
}
