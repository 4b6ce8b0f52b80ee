/**
 * Ends the process when its event loop is blocked for longer than a handler may take: nobody else does, and its shards would stand
 * still. A thread of its own looks whether the event loop still turns. Soon, before a broker that hears nothing gives the shards to other
 * sessions, it puts on record that a trial (trials.ts) is blocked, which the event loop takes back if it goes on; in the end it says in the
 * log that it ends the process.
 *
 * The thread runs this very file. It keeps a few megabytes, and connects to the store only when it has something to say.
 */
import { url as inspectorUrl } from 'node:inspector';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Config } from '../config/config.ts';
import { messageOf } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { Store } from '../stores/store.ts';
import { every, systemTime, type Time, type Timer, within } from '../time.ts';

interface Watched {
  readonly kind: 'inorder block watch';
  readonly config: Config;
  readonly limitMs: number;
  /** The event loop counts here. */
  readonly turns: Int32Array;
}

/** The note of a session; null: it has taken its leave. */
interface Noted {
  readonly shard: number;
  readonly epoch: number;
  readonly note: string | null;
}

/** A machine that is short of processors must not look like a loop. */
const leastBlockedMs = 10_000;
/** A broker gives a connection up once it has heard nothing for two of its heartbeats: 30 seconds, unless it asks for shorter ones. */
const noteAfterMs = 5_000;
const looks = 20;
const lastWordsMs = 5_000;

/** Counts the turns of this thread's event loop, for `whenBlocked` in another thread with this limit or a longer one. */
export function countTurns(time: Pick<Time, 'after'>, turns: Int32Array, limitMs: number): Timer {
  return every(time, limitMs / looks, () => void turns[0]!++, { unref: true });
}

/**
 * Calls `go` once, when the event loop that counts has stood still for `limitMs` while it had work. It counts its own looks and not
 * time: a process that was stopped has not been blocked.
 */
export function whenBlocked(time: Pick<Time, 'after'>, turns: Int32Array, limitMs: number, go: () => void, hasWork = () => true): Timer {
  let [seen, still] = [turns[0], 0];
  const timer = every(
    time,
    limitMs / looks,
    () => {
      still = hasWork() && turns[0] === seen ? still + 1 : 0;
      seen = turns[0];
      if (still < looks) return;
      timer.cancel();
      go();
    },
    { unref: true },
  );
  return timer;
}

/** How long an event loop may stand still: as long as a handler may take, and at least ten seconds. */
export function blockedAfterMs({ processing }: Pick<Config, 'processing'>): number {
  return Math.max(processing.handlerTimeoutMs, leastBlockedMs);
}

export class BlockWatch {
  readonly #config: Config;
  readonly #log: Log;
  readonly #time: Time;
  #thread: Worker | null = null;
  #timer: Timer | null = null;
  #store: Pick<Store, 'noteSession'> | null = null;
  /** By shard, and the writing of it: none overtakes another. */
  readonly #noted = new Map<number, Noted>();
  readonly #writing = new Map<number, Promise<void>>();

  constructor({ config, log, time }: { readonly config: Config; readonly log: Log; readonly time: Time }) {
    this.#config = config;
    this.#log = log;
    this.#time = time;
  }

  /** Not under a debugger, at which an event loop stands still for as long as one thinks. */
  start(): void {
    if (inspectorUrl() !== undefined) return;
    const limitMs = blockedAfterMs(this.#config);
    const turns = new Int32Array(new SharedArrayBuffer(4));
    const watched: Watched = { kind: 'inorder block watch', config: this.#config, limitMs, turns };
    const failed = (error: unknown) => this.#log.warn({ cause: messageOf(error) }, 'nobody looks whether the event loop is blocked');
    try {
      this.#thread = new Worker(new URL(import.meta.url), { workerData: watched });
      this.#thread.on('message', (shard: number) => this.#noteAgain(shard));
      this.#thread.on('error', failed).unref();
      this.#timer = countTurns(this.#time, turns, noteAfterMs);
    } catch (error) {
      // A configuration that was written by hand and has something in it that cannot be handed over.
      failed(error);
    }
  }

  /** The store, of which the thread learns what sessions put on record. */
  sees(store: Pick<Store, 'noteSession'>): Pick<Store, 'noteSession'> {
    this.#store = store;
    return {
      noteSession: (shard, epoch, note) => {
        const noted: Noted = { shard, epoch, note };
        this.#noted.set(shard, noted);
        this.#thread?.postMessage(noted);
        return this.#inTurn(shard, () => store.noteSession(shard, epoch, note));
      },
    };
  }

  /** The event loop goes on: what the thread has put on record is no longer so. */
  #noteAgain(shard: number): void {
    const write = async () => {
      const { epoch, note } = this.#noted.get(shard)!;
      await this.#store?.noteSession(shard, epoch, note);
    };
    this.#inTurn(shard, write).catch(() => undefined);
  }

  #inTurn(shard: number, write: () => Promise<void>): Promise<void> {
    const writing = (this.#writing.get(shard) ?? Promise.resolve()).catch(() => undefined).then(write);
    this.#writing.set(shard, writing);
    return writing;
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#thread?.terminate();
  }
}

/** The thread. */
function watch({ config, limitMs, turns }: Watched): void {
  const notes = new Map<number, Noted>();
  parentPort?.on('message', (noted: Noted) => notes.set(noted.shard, noted));
  let noted: Promise<unknown> = Promise.resolve();
  /** Once for each time that it stands still. */
  let notedAt = -1;
  const isNews = () => turns[0] !== notedAt;
  const note = async () => {
    const at = turns[0]!;
    if (await noteBlocked(config, [...notes.values()], () => turns[0] === at).catch(() => false)) notedAt = at;
    look();
  };
  const look = () => whenBlocked(systemTime, turns, noteAfterMs, () => void (noted = note()), isNews);
  look();
  whenBlocked(systemTime, turns, limitMs, () => {
    void within(systemTime, Promise.all([noted, lastWords(config, limitMs)]), lastWordsMs).finally(() =>
      process.kill(process.pid, 'SIGKILL'),
    );
  });
}

/** Returns whether all is on record. */
async function noteBlocked(config: Config, notes: readonly Noted[], isStill: () => boolean): Promise<boolean> {
  if (notes.every(({ note }) => note === null)) return true;
  const [{ openStore }, { asBlocked }] = await Promise.all([import('../stores/open-store.ts'), import('./trials.ts')]);
  const store = openStore(config, { role: 'block-watch', log: await logOf(config), time: systemTime });
  const told = notes.map(async ({ shard, epoch, note }) => {
    if (note === null || !isStill()) return;
    // Told in any case: what had no answer may have been done.
    await store.noteSession(shard, epoch, asBlocked(note)).finally(() => parentPort?.postMessage(shard));
  });
  const results = await Promise.allSettled(told);
  await store.close();
  return results.every(({ status }) => status === 'fulfilled');
}

async function lastWords(config: Config, limitMs: number): Promise<void> {
  const log = await logOf(config);
  log.error({ blocked_ms: limitMs }, 'the event loop is blocked: the process is ended, a standby takes over');
}

async function logOf({ logLevel, serviceName }: Config): Promise<Log> {
  const { createLog } = await import('../observability/log.ts');
  return createLog({ level: logLevel, service: serviceName });
}

if (!isMainThread && (workerData as Watched | null)?.kind === 'inorder block watch') watch(workerData as Watched);
