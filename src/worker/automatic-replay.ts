/**
 * One automatic replay (AUTO_REPLAY), on its own connections: reads the dead-letter queue once for all given entities, and
 * replays those of their letters that only lacked a predecessor. It excludes every other replay or change of the stream's dead
 * letters while it runs. `auto-replay.ts` decides when it runs.
 */
import type { Config } from '../config/config.ts';
import { isWaiting } from '../dead-letters/dead-letter.ts';
import { DeadLetters, letterSettings } from '../dead-letters/dead-letters.ts';
import { KeptBroker } from '../dead-letters/letter-broker.ts';
import { countLetters, type EntityReplay } from '../dead-letters/replay-plan.ts';
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import type { Log } from '../observability/log.ts';
import type { Store } from '../stores/store.ts';
import type { Time } from '../time.ts';

export interface AutomaticReplayOptions {
  readonly config: Config;
  readonly store: Store;
  readonly log: Log;
  readonly time: Time;
  /** Called during the replay with the number of letters replayed since the last call. */
  readonly onReplayed: (letters: number) => void;
}

export interface ReplayRequest {
  /** The replayable letters of these entities are replayed. */
  readonly entities: readonly EntityRef[];
  /** Ready entities with letters from these shards are replayed as well. */
  readonly shards: ReadonlySet<number>;
  /** The most entities to take from `shards`. */
  readonly maxFound: number;
  readonly signal: AbortSignal;
}

export interface AutomaticReport {
  /** The entities with letters in the queue, replayable or not. */
  readonly entities: readonly EntityReplay[];
  readonly replayed: number;
  readonly blocked: number;
  /** False when a shard may have more entities that are ready. */
  readonly complete: boolean;
}

/** How long a stop waits for a broker that does not accept publishes. */
const endTimeoutMs = 2_000;

/** @throws UnavailableError when broker or store become unavailable, dead letters are being changed elsewhere, or `signal` aborts. */
export async function replayAutomatically(request: ReplayRequest, options: AutomaticReplayOptions): Promise<AutomaticReport> {
  const { config, store, log, time } = options;
  const { urls, stream } = config.broker;
  const names = { reading: `${config.serviceName} auto-replay`, publishing: `${config.serviceName} auto-replay publishes` };
  // The connections open and close with each replay; only its result is logged.
  const quiet: Log = { debug: log.debug.bind(log), info: log.debug.bind(log), warn: log.warn.bind(log), error: log.error.bind(log) };
  const broker = new KeptBroker({ urls, stream, names, log: quiet, time });
  const all = new DeadLetters({ ...letterSettings(config), store, broker, time });
  try {
    return await all.exclusively((letters) => replayReady(letters, request, options.onReplayed), 0);
  } finally {
    await all.close();
  }
}

async function replayReady(letters: DeadLetters, request: ReplayRequest, onReplayed: (letters: number) => void): Promise<AutomaticReport> {
  const { shards, maxFound: maxEntities, signal } = request;
  const found = shards.size === 0 ? { entities: [], complete: true } : await letters.ready({ shards, maxEntities, signal });
  const asked = new Set([...request.entities, ...found.entities].map(entityKey));
  const { complete } = found;
  if (asked.size === 0) return { entities: [], replayed: 0, blocked: 0, complete };
  const plan = await letters.plan({ concerns: (letter) => isWaiting(letter) && asked.has(entityKey(letter)), signal });
  const { replayable, blocked } = countLetters(plan);
  if (replayable === 0) return { entities: plan.entities, replayed: 0, blocked, complete };
  let reported = 0;
  const onProgress = (count: number) => {
    onReplayed(count - reported);
    reported = count;
  };
  const to = { who: 'worker', why: 'what was missing has arrived', signal, abandonAfterMs: endTimeoutMs, onProgress };
  const { replayed } = await letters.replay(plan, to);
  return { entities: plan.entities, replayed, blocked, complete };
}
