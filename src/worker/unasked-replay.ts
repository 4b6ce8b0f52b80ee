/**
 * One replay that nobody asked for (AUTO_REPLAY), on connections of its own: reads the dead-letter queue once for all
 * entities that are meant, and replays what of them died of its predecessor alone. It is the only one of its stream,
 * and no operator changes dead letters meanwhile. When to do it is for `auto-replay.ts`.
 */
import type { ChannelModel } from 'amqplib';
import { isWaiting } from '../dead-letters/dead-letter.ts';
import { findReadyEntities } from '../dead-letters/inspect.ts';
import { withOperatorLock } from '../dead-letters/operator-lock.ts';
import { countLetters, type EntityReplay } from '../dead-letters/replay-plan.ts';
import { replay } from '../dead-letters/replay.ts';
import { planReplay } from '../dead-letters/survey.ts';
import { entityName } from '../events/identity.ts';
import { UnavailableError } from '../errors.ts';
import type { DecodeOptions } from '../events/decode.ts';
import type { EntityRef } from '../events/event.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/limits.ts';
import type { Log } from '../observability/log.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { type AmqpPublisher, createAmqpPublisher } from '../rabbitmq/publisher.ts';
import type { Store } from '../stores/store.ts';
import type { Time } from '../time.ts';

export interface UnaskedReplayOptions {
  readonly urls: readonly string[];
  readonly serviceName: string;
  readonly stream: string;
  readonly store: Pick<Store, 'findDeadLetters' | 'load' | 'recall' | 'operator'>;
  readonly decoding: DecodeOptions;
  readonly firstSequence: FirstSequence;
  readonly strategy: ViolationStrategy;
  readonly log: Log;
  /** Called while it goes on, with how many more letters were replayed. */
  readonly onReplayed: (letters: number) => void;
  readonly time: Time;
}

export interface ReplayRequest {
  /** Their letters are replayed as far as they can go. */
  readonly entities: readonly EntityRef[];
  /** Entities of which letters lie there from these shards, and that are ready, as well. */
  readonly shards: ReadonlySet<number>;
  /** Most entities that are looked for in shards. */
  readonly maxFound: number;
  readonly signal: AbortSignal;
}

export interface UnaskedReport {
  /** Of which letters were found; also those of which none could go. */
  readonly entities: readonly EntityReplay[];
  readonly replayed: number;
  readonly blocked: number;
  /** False when a shard may hold more entities that are ready. */
  readonly complete: boolean;
}

/** How long a broker that takes no publishes may keep what was begun when this has to end. */
const endTimeoutMs = 2_000;

/** @throws UnavailableError when broker or store go away, somebody else changes dead letters, or `signal` ends it. */
export function replayUnasked(request: ReplayRequest, options: UnaskedReplayOptions): Promise<UnaskedReport> {
  return withConnections(request.signal, options, (connection, publisher) =>
    withOperatorLock(connection, options.stream, 0, () => replayMeant(request, connection, publisher, options)),
  );
}

async function replayMeant(
  request: ReplayRequest,
  connection: ChannelModel,
  publisher: AmqpPublisher,
  options: UnaskedReplayOptions,
): Promise<UnaskedReport> {
  const { shards, maxFound: maxEntities, signal } = request;
  const access = { ...options, connection, signal };
  const found = shards.size === 0 ? { entities: [], complete: true } : await findReadyEntities({ ...access, shards, maxEntities });
  const meant = new Set([...request.entities, ...found.entities].map(entityName));
  const { complete } = found;
  if (meant.size === 0) return { entities: [], replayed: 0, blocked: 0, complete };
  const plan = await planReplay({ ...access, filter: {}, concerns: (letter) => isWaiting(letter) && meant.has(entityName(letter)) });
  const { replayable, blocked } = countLetters(plan);
  if (replayable === 0) return { entities: plan.entities, replayed: 0, blocked, complete };
  let reported = 0;
  const { replayed } = await replay(plan, {
    ...access,
    publisher,
    who: 'worker',
    why: 'what was missing has arrived',
    onProgress: (count) => {
      options.onReplayed(count - reported);
      reported = count;
    },
  });
  return { entities: plan.entities, replayed, blocked, complete };
}

type Use<T> = (connection: ChannelModel, publisher: AmqpPublisher) => Promise<T>;

async function withConnections<T>(signal: AbortSignal, options: UnaskedReplayOptions, use: Use<T>): Promise<T> {
  const { urls, serviceName, stream, log, time } = options;
  // They come and go with each replay, which is told when it is done.
  const quiet: Log = { debug: (...line) => log.debug(...line), info: (...line) => log.debug(...line), warn: (...line) => log.warn(...line), error: (...line) => log.error(...line) };
  const reading = createConnection({ urls, name: `${serviceName} auto-replay`, log: quiet, time });
  const publishing = createConnection({ urls, name: `${serviceName} auto-replay publishes`, log: quiet, time });
  const publisher = createAmqpPublisher({ connection: publishing, exchange: stream, log: quiet });
  // What the broker does not take is given up, so that its letters stay where they are.
  const giveUp = () => void publisher.close(endTimeoutMs);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    const connection = await reading.ready();
    const lost = new Promise<never>((_, reject) => {
      reading.listen({ up: () => undefined, lost: (cause) => reject(new UnavailableError(cause.message, { cause })) });
    });
    return await Promise.race([use(connection, publisher), lost]);
  } finally {
    signal.removeEventListener('abort', giveUp);
    await publisher.close(0);
    await Promise.all([reading.close(), publishing.close()]);
  }
}
