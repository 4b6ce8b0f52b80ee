/**
 * Replays dead letters automatically (AUTO_REPLAY): decides when, and of which entities; then one replay reads the dead-letter
 * queue once, on its own connections, and publishes those letters of them that only lacked a predecessor. It excludes every other
 * replay or change of the stream's dead letters while it runs.
 *
 *   an event was applied, and its entity is still parked ────────┐
 *   a shard was taken over: its previous owner may have died ────┼─▶ gathered ──▶ one replay for all ──▶ a pause, and again
 *   an entity is still parked after its replay: something raced ─┤
 *   now and then one worker of all, while the queue is not empty ┘
 *
 * Guarantees that a replay never delays or stops event processing; that one replay runs at a time, followed by a pause of at
 * least its own duration, so that a flood does not keep the queue under reading; that an entity is left alone once one of its
 * letters fails again, or after a few tries that did not move its version, until it is found by a search. Gathered entities are
 * kept in memory only: after a crash the next owner of the shard searches for them. One that is given no deliveries does not know
 * that it is the owner: for it all workers take turns to look through the queue, and have on record at the broker who has just looked.
 */
import { type Config, connectionName } from '../config/config.ts';
import { isWaiting, textOf } from '../dead-letters/dead-letter.ts';
import { DeadLetters, letterSettings } from '../dead-letters/dead-letters.ts';
import { type Connect, KeptBroker } from '../dead-letters/letter-broker.ts';
import { countLetters, type EntityReplay } from '../dead-letters/replay-plan.ts';
import { entityKey } from '../events/identity.ts';
import type { StreamRecordKeeper } from '../rabbitmq/stream-record.ts';
import { snapshotsOf, type Store } from '../stores/store.ts';
import { messageOf, UnavailableError } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import type { Log } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { Parked, Snapshot } from '../ordering/entity.ts';
import { type BackOffLimits, backOffMs, type Time, type Timer, within } from '../time.ts';

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

export interface AutoReplayOptions {
  readonly store: Pick<Store, 'load'>;
  /** Rejects with `UnavailableError` when the replay should be tried again later. */
  readonly replay: (request: ReplayRequest) => Promise<AutomaticReport>;
  /** How many letters are in the queue. Rejects with `UnavailableError` when they cannot be counted. */
  readonly lettersLeft: () => Promise<number>;
  /** Whether it is for this worker to look through the queue; then no other one does for `forMs`. Rejects as `lettersLeft` does. */
  readonly takeTurn: (forMs: number) => Promise<boolean>;
  /** Of the stream; all of them are looked for. */
  readonly shardCount: number;
  readonly metrics: Pick<Metrics, 'autoReplayEnded'>;
  readonly log: Log;
  readonly time: Time;
  readonly pace?: Partial<AutoReplayPace>;
}

export interface AutoReplayPace {
  /** How long entities are gathered, in milliseconds. Default 100. */
  readonly gatherMs: number;
  /** The same for an entity of which more seems to be missing, in milliseconds. Default 5,000. */
  readonly patienceMs: number;
  /** Shortest pause between two replays, in milliseconds. Default 1,000. */
  readonly pauseMs: number;
  /** Between the tries at one entity, and after failed replays. Default from 1 s to 30 s. */
  readonly backOff: BackOffLimits;
  /**
   * How often a queue that is not empty is searched without a cause, in milliseconds: after half of it at the earliest, by whichever worker
   * comes first. Default 300,000; longer where the searches of a long queue would take more than a twentieth of the time.
   */
  readonly searchMs: number;
}

const defaultPace: AutoReplayPace = {
  gatherMs: 100,
  patienceMs: 5_000,
  pauseMs: 1_000,
  backOff: { initialMs: 1_000, maxMs: 30_000 },
  searchMs: 300_000,
};
const searchShare = 1 / 20;

/** How often the queue is read for an entity whose version does not move. */
const maxTries = 4;
/** Beyond this number the entity's shard is searched instead. */
const maxGathered = 10_000;

/** An entity whose dead letters may be ready. */
interface Candidate {
  readonly entity: EntityRef;
  readonly tries: number;
  readonly dueMs: number;
  /** What the last try found, and the highest sequence that it replayed. Null before the first try. */
  readonly tried: { readonly version: number; readonly parkedAt: string | null; readonly last: number } | null;
}

export class AutoReplay {
  readonly #options: AutoReplayOptions;
  readonly #pace: AutoReplayPace;
  readonly #stopping = new AbortController();
  #candidates = new Map<string, Candidate>();
  #shards = new Set<number>();
  #shardsDueMs = Number.POSITIVE_INFINITY;
  #timer: Timer | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #notBeforeMs = 0;
  #failures = 0;
  #running: Promise<void> | null = null;
  #searchTookMs = 0;
  #searchTimer: Timer | null = null;

  constructor(options: AutoReplayOptions) {
    this.#options = options;
    this.#pace = { ...defaultPace, ...options.pace };
  }

  /** The entity has reached `version` and is still parked. */
  advanced(shard: number, entity: EntityRef, version: number, parked: Parked): void {
    if (parked.replaying) return;
    const name = entityKey(entity);
    if (this.#candidates.size >= maxGathered && !this.#candidates.has(name)) {
      this.search(shard);
      return;
    }
    // The first dead letter usually has the lowest sequence. If that is not next, more events are missing and likely to arrive.
    const isNext = parked.sequence <= version + 1;
    const dueMs = this.#options.time.nowMs() + (isNext ? this.#pace.gatherMs : this.#pace.patienceMs);
    const known = this.#candidates.get(name)?.dueMs ?? Number.POSITIVE_INFINITY;
    this.#candidates.set(name, { entity, tries: 0, dueMs: Math.min(dueMs, known), tried: null });
    this.#arm(dueMs);
  }

  /** Dead letters of this shard may be ready without this worker having seen the cause. */
  search(shard: number): void {
    if (this.#searchTimer === null) this.#searchLater();
    this.#shards.add(shard);
    this.#shardsDueMs = Math.min(this.#shardsDueMs, this.#options.time.nowMs() + this.#pace.gatherMs);
    this.#arm(this.#shardsDueMs);
  }

  /** Starts nothing more. Resolves when the running replay has ended, or after `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping.abort();
    this.#timer?.cancel();
    this.#timer = null;
    this.#searchTimer?.cancel();
    if (this.#running !== null) await within(this.#options.time, this.#running, timeoutMs);
  }

  /** For ever: no count of the queue tells that nothing in it has become ready. */
  #searchLater(): void {
    const { time } = this.#options;
    if (this.#stopping.signal.aborted) return;
    const everyMs = Math.max(this.#pace.searchMs, this.#searchTookMs / searchShare);
    const waitMs = everyMs * (0.5 + time.random());
    this.#searchTimer = time.after(waitMs, () => void this.#searchIfAnyIsLeft(everyMs / 2).then(() => this.#searchLater()));
  }

  /** Never rejects. */
  async #searchIfAnyIsLeft(forMs: number): Promise<void> {
    const { lettersLeft, takeTurn, shardCount, log } = this.#options;
    try {
      if ((await lettersLeft()) > 0 && (await takeTurn(forMs))) for (let shard = 0; shard < shardCount; shard++) this.search(shard);
    } catch (error) {
      if (error instanceof UnavailableError) log.debug({ cause: messageOf(error) }, 'dead letters cannot be counted now');
      else log.error({ error }, 'a bug: dead letters could not be counted');
    }
  }

  #arm(dueMs: number): void {
    const atMs = Math.max(dueMs, this.#notBeforeMs);
    if (this.#stopping.signal.aborted || this.#running !== null || atMs >= this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    const { time } = this.#options;
    this.#timer = time.after(Math.max(0, Math.ceil(atMs - time.nowMs())), () => this.#begin());
  }

  #begin(): void {
    this.#timer = null;
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const startedMs = this.#options.time.nowMs();
    this.#running = this.#run(startedMs).then(() => {
      this.#running = null;
      const endedMs = this.#options.time.nowMs();
      this.#notBeforeMs = endedMs + Math.max(this.#pace.pauseMs, endedMs - startedMs);
      let nextMs = this.#shardsDueMs;
      for (const { dueMs } of this.#candidates.values()) nextMs = Math.min(nextMs, dueMs);
      if (nextMs < Number.POSITIVE_INFINITY) this.#arm(nextMs);
    });
  }

  /** Never rejects. */
  async #run(nowMs: number): Promise<void> {
    const due = this.#takeDue(nowMs);
    const shards = nowMs >= this.#shardsDueMs ? this.#shards : new Set<number>();
    if (shards === this.#shards) {
      this.#shards = new Set();
      this.#shardsDueMs = Number.POSITIVE_INFINITY;
    }
    const { log, metrics } = this.#options;
    try {
      const open = await this.#stillOpen(due);
      if (open.length === 0 && shards.size === 0) return;
      const entities = open.map(({ candidate }) => candidate.entity);
      const report = await this.#options.replay({ entities, shards, maxFound: maxGathered, signal: this.#stopping.signal });
      this.#failures = 0;
      this.#settle(open, report);
      if (shards.size > 0) this.#searchTookMs = this.#options.time.nowMs() - nowMs;
      if (!report.complete) for (const shard of shards) this.search(shard);
      const { replayed, blocked } = report;
      metrics.autoReplayEnded(replayed > 0 ? 'replayed' : 'nothing');
      const fields = { replayed, blocked, entities: report.entities.length };
      if (replayed > 0) log.info(fields, 'dead letters were replayed: what was missing has arrived');
      else log.debug(fields, 'no dead letters to replay');
    } catch (error) {
      this.#putOff(due, shards, error);
    }
  }

  /** Includes candidates that become due a moment later: they came together with the first. */
  #takeDue(nowMs: number): readonly Candidate[] {
    const due = [...this.#candidates].filter(([, { dueMs }]) => dueMs <= nowMs + this.#pace.gatherMs);
    for (const [name] of due) this.#candidates.delete(name);
    return due.map(([, candidate]) => candidate);
  }

  /** The candidates for which the queue has to be read. The others wait for a running replay, or are finished. */
  async #stillOpen(due: readonly Candidate[]): Promise<readonly Open[]> {
    const snapshots = await snapshotsOf(
      this.#options.store,
      due.map(({ entity }) => entity),
    );
    const open: Open[] = [];
    for (const [index, candidate] of due.entries()) {
      const snapshot = snapshots[index]!;
      const verdict = judge(candidate, snapshot);
      // Each step forward resets the count of tries; there are at most as many steps as events.
      const progress = candidate.tried !== null && snapshot.version > candidate.tried.version;
      if (verdict === 'try') open.push({ candidate: progress ? { ...candidate, tries: 0 } : candidate, snapshot });
      else if (verdict === 'wait') this.#putBack({ ...candidate, dueMs: this.#options.time.nowMs() + this.#pace.pauseMs });
    }
    return open;
  }

  /** Checks the tried entities again: more may have been dead-lettered at the same moment. */
  #settle(open: readonly Open[], { entities }: AutomaticReport): void {
    const triesOf = new Map(open.map(({ candidate }) => [entityKey(candidate.entity), candidate.tries]));
    const nowMs = this.#options.time.nowMs();
    const again = (entity: EntityRef, { version, parked }: Pick<Snapshot, 'version' | 'parked'>, last: number) => {
      const tries = (triesOf.get(entityKey(entity)) ?? 0) + 1;
      const dueMs = nowMs + backOffMs(this.#pace.backOff, tries, this.#options.time);
      this.#putBack({ entity, tries, dueMs, tried: { version, parkedAt: parked?.at ?? null, last } });
    };
    for (const tried of entities)
      again(
        tried.entity,
        tried,
        tried.letters.reduce((last, { sequence }) => Math.max(last, sequence ?? last), Number.NEGATIVE_INFINITY),
      );
    for (const { candidate, snapshot } of open) again(candidate.entity, snapshot, Number.NEGATIVE_INFINITY);
  }

  #putOff(due: readonly Candidate[], shards: ReadonlySet<number>, error: unknown): void {
    if (this.#stopping.signal.aborted) return;
    const { log, metrics, time } = this.#options;
    const retryInMs = backOffMs(this.#pace.backOff, ++this.#failures, time);
    const dueMs = time.nowMs() + retryInMs;
    for (const candidate of due) this.#putBack({ ...candidate, dueMs });
    for (const shard of shards) this.#shards.add(shard);
    if (shards.size > 0) this.#shardsDueMs = Math.min(this.#shardsDueMs, dueMs);
    metrics.autoReplayEnded('put_off');
    if (error instanceof UnavailableError)
      log.warn({ cause: messageOf(error), retry_in_ms: retryInMs }, 'dead letters could not be replayed; trying again');
    else log.error({ error, retry_in_ms: retryInMs }, 'a bug: dead letters could not be replayed; trying again');
  }

  /** A candidate that was added meanwhile is newer, and stays. */
  #putBack(candidate: Candidate): void {
    const name = entityKey(candidate.entity);
    if (!this.#candidates.has(name)) this.#candidates.set(name, candidate);
  }
}

interface Open {
  readonly candidate: Candidate;
  readonly snapshot: Snapshot;
}

function judge({ tries, tried }: Candidate, { version, parked }: Snapshot): 'try' | 'wait' | 'done' {
  if (tried === null) return parked?.replaying ? 'wait' : 'try';
  if (parked === null) return 'done';
  // Parked again because one of its letters failed again. (One that was parked by a new gap may wait for a letter in the queue.)
  if (parked.at !== tried.parkedAt && textOf(parked.reason).fault !== 'predecessor') return 'done';
  if (parked.replaying && version < tried.last) return 'wait';
  return tries < maxTries || version > tried.version ? 'try' : 'done';
}

export interface AutoReplayParts extends Pick<AutoReplayOptions, 'lettersLeft'> {
  readonly config: Config;
  readonly record: Pick<StreamRecordKeeper, 'change'>;
  readonly store: Store;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly time: Time;
  /** Default: to the broker of the configuration. */
  readonly connect?: Connect;
  /** Messages per page of a reading. Default: that of readings. */
  readonly pageSize?: number;
}

/** The automatic replay as a worker uses it. */
export function createAutoReplay(parts: AutoReplayParts): AutoReplay {
  const { config, record, time } = parts;
  const replay = (request: ReplayRequest) => replayOnce(request, parts);
  return new AutoReplay({ ...parts, replay, takeTurn: turnTaker(record, time), shardCount: config.broker.shards });
}

/** The turns are on record at the broker. Where it keeps no record, every worker looks. */
export function turnTaker(record: Pick<StreamRecordKeeper, 'change'>, time: Pick<Time, 'wallMs'>): AutoReplayOptions['takeTurn'] {
  return async (forMs) => {
    let isMine = true;
    await record.change((known) => {
      if (known === null || known.identity === null) return null;
      const nowMs = time.wallMs();
      const leftMs = (known.searchedUntilMs ?? nowMs) - nowMs;
      // One that ends later was set by a clock that is wrong.
      isMine = leftMs <= 0 || leftMs > forMs;
      return isMine ? { ...known, searchedUntilMs: nowMs + forMs } : null;
    });
    return isMine;
  };
}

/** How long a stop waits for a broker that does not accept publishes. */
const endTimeoutMs = 2_000;

/** @throws UnavailableError when broker or store become unavailable, dead letters are being changed elsewhere, or `signal` aborts. */
export async function replayOnce(request: ReplayRequest, parts: AutoReplayParts): Promise<AutomaticReport> {
  const { config, store, metrics, log, time, connect, pageSize } = parts;
  const names = { reading: connectionName('auto-replay', config), publishing: connectionName('auto-replay-publishing', config) };
  // The connections open and close with each replay; only its result is logged.
  const quiet: Log = { debug: log.debug.bind(log), info: log.debug.bind(log), warn: log.warn.bind(log), error: log.error.bind(log) };
  const broker = new KeptBroker({ ...config.broker, names, log: quiet, time, connect });
  const all = new DeadLetters({ ...letterSettings(config), store, broker, time, pageSize });
  try {
    return await all.exclusively((letters) => replayReady(letters, request, (count) => metrics.autoReplayed(count)), 0);
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
