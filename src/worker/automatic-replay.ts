/**
 * One automatic replay (AUTO_REPLAY), on connections of its own: reads the dead-letter queue once for all entities that are asked
 * for, and replays what of them died of its predecessor alone. It is the only one of its stream, and no operator changes dead
 * letters meanwhile. When to do it is for `auto-replay.ts`.
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
  /** Called while it goes on, with how many more letters were replayed. */
  readonly onReplayed: (letters: number) => void;
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

export interface AutomaticReport {
  /** Of which letters were found; also those of which none could go. */
  readonly entities: readonly EntityReplay[];
  readonly replayed: number;
  readonly blocked: number;
  /** False when a shard may hold more entities that are ready. */
  readonly complete: boolean;
}

/** How long a broker that takes no publishes may keep what was begun when this has to end. */
const endTimeoutMs = 2_000;

/** @throws UnavailableError when broker or store become unavailable, somebody else changes dead letters, or `signal` ends it. */
export async function replayAutomatically(request: ReplayRequest, options: AutomaticReplayOptions): Promise<AutomaticReport> {
  const { config, store, log, time } = options;
  const { urls, stream } = config.broker;
  const names = { reading: `${config.serviceName} auto-replay`, publishing: `${config.serviceName} auto-replay publishes` };
  // They come and go with each replay, which is told when it is done.
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
