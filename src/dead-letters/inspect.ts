/**
 * Lists and finds dead letters. The queue stays as it is (see `peek.ts`); the store is asked for a page's records in
 * one call; memory is bounded by a page.
 */
import type { ChannelModel } from 'amqplib';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import { toRawMessage } from '../rabbitmq/raw-message.ts';
import { deadLetterQueueName, shardQueueName } from '../rabbitmq/topology-plan.ts';
import type { Store } from '../stores/store.ts';
import { type DeadLetter, explain, isNamed, readLetter } from './dead-letter.ts';
import { peek } from './peek.ts';

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

/** Every dead letter that `id` means, oldest first: an event may have been dead-lettered in several copies. */
export async function findDeadLetters(id: string, options: Omit<InspectOptions, 'limit'>): Promise<readonly DeadLetter[]> {
  const found: DeadLetter[] = [];
  for await (const letters of listDeadLetters(options)) found.push(...letters.filter((letter) => isNamed(letter, id)));
  return found;
}

function shardOf(stream: string, queue: string): number | null {
  const shard = Number(/\d+$/.exec(queue)?.[0]);
  return Number.isSafeInteger(shard) && shardQueueName(stream, shard) === queue ? shard : null;
}
