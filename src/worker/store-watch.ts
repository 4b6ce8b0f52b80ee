/**
 * Notices a store that went backwards: emptied, restored from an old copy, or exchanged for another. Epochs only grow and
 * the identity never changes, so a counter that is lower than a known epoch, or that hands one out again, proves that
 * committed versions may be lost too, even if no entity shows it yet. Continuing would apply old events again.
 *
 * A halt is recorded in the store and at the broker, because a store does not know what it lost. Every later session of any
 * worker checks both before it begins. A halt lasts until an operator ends it; then the shards resume by themselves. A worker
 * that is connected to another store than the broker has on record halts alone, until it is back at the right one.
 *
 * Notices as well, with a write at each interval, when the store takes none.
 */
import { messageOf, UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { StreamRecord, StreamRecordKeeper } from '../rabbitmq/stream-record.ts';
import { lookForHalts, type EpochResult, type Halt, type Store } from '../stores/store.ts';
import { backOffMs, isoNow, patiently, sleep, type Time, type Timer, within } from '../time.ts';

export interface StoreWatchOptions {
  readonly store: Pick<Store, 'streamState' | 'nextEpoch' | 'identify' | 'halt' | 'listEntities' | 'tryWrite'>;
  /** The broker's side. */
  readonly record: Pick<StreamRecordKeeper, 'read' | 'change' | 'trouble'>;
  readonly intervalMs: number;
  readonly shards: readonly HaltableShard[];
  readonly onError: (error: unknown) => void;
  readonly metrics: Pick<Metrics, 'storeUnavailable'>;
  readonly log: Pick<Log, 'info' | 'warn'>;
  readonly time: Time;
}

export interface HaltableShard {
  readonly shard: number;
  haltBecauseStoreWentBackwards(detail: string): void;
  /** Does nothing unless the shard is halted. */
  resume(): Promise<void>;
}

const retry = { initialMs: 100, maxMs: 2_000 };
const epochBackOff = { initialMs: 100, maxMs: 5_000 };

export class StoreWatch {
  readonly #options: StoreWatchOptions;
  /** Others are told, and shards halted, only by what the store has kept. */
  readonly #kept: Pick<Store, 'streamState' | 'listEntities'>;
  readonly #stopping = new AbortController();
  /** The identity of the store at the start; null before. */
  #identity: string | null = null;
  #highest = 0;
  #halts: readonly Halt[] = [];
  #refusal: string | null = null;
  /** The halts noticed by this worker: each promise settles once the halt is recorded. */
  readonly #records = new Map<number | null, Promise<void>>();
  #pending = 0;
  #timer: Timer | null = null;
  /** The highest epoch recorded at the broker. */
  #noted = -1;
  #noting: Promise<void> | null = null;
  #reading: Promise<unknown> = Promise.resolve();
  #nextReading: Promise<StreamRecord | null> | null = null;
  /** Why the last look failed; null if it did not. */
  #trouble: string | null = null;

  constructor(options: StoreWatchOptions) {
    this.#options = options;
    const { store } = options;
    this.#kept = { streamState: () => store.streamState({ durable: true }), listEntities: (filter) => store.listEntities(filter) };
  }

  /** The recorded halts, as of the last look. */
  get halts(): readonly Halt[] {
    return this.#halts;
  }

  /** Why the store took no write at the last interval; null if it did. */
  get refusal(): string | null {
    return this.#refusal;
  }

  start(): void {
    this.#lookLater();
  }

  /**
   * Compares the store with the broker's record of it, before any decision depends on either. A stream without a record gets
   * this store. @throws UnavailableError
   */
  async begin(): Promise<void> {
    const { store, record, log, time } = this.#options;
    const known = await record.read();
    const { state, halts } = await lookForHalts(this.#kept, known, time);
    if (!isAll(halts)) {
      this.#identity = await store.identify();
      this.#highest = Math.max(state.epoch, known?.epoch ?? 0);
      // A broker short of memory accepts no record, but it needs workers to start.
      if (known?.identity === this.#identity) void this.#noteLater();
      // If two workers start with different stores at the same time, one finds the other's record.
      else if (!(await this.#note())) return this.begin();
    }
    if (record.trouble !== null) {
      log.warn({ cause: record.trouble }, 'the broker keeps no record of the store: an empty or older store is not noticed at a start');
    }
    this.#tell(halts);
  }

  /** Asks until the store answers. Rejects once `signal` is aborted and the store does not answer. */
  nextEpoch(shard: number, signal: AbortSignal): Promise<EpochResult> {
    const { metrics, log, time } = this.#options;
    const onUnavailable = (error: UnavailableError, failures: number) => {
      metrics.storeUnavailable();
      if (failures === 1) log.warn({ shard, cause: messageOf(error) }, 'the store is unavailable: no epoch yet');
    };
    return patiently(() => this.#nextEpoch(shard), { time, signal, pauses: epochBackOff, onUnavailable });
  }

  /**
   * An emptied store counts from 1 again and may have caught up before anybody looks: the identity shows it. What the broker has on record
   * is looked at too: the epochs of a worker that has ended since may be known nowhere else.
   */
  async #nextEpoch(shard: number): Promise<EpochResult> {
    // Read before asking, as below.
    const known = await this.#readRecord();
    const identity = this.#identity;
    const expected = Math.max(this.#highest, known !== null && known.identity === identity ? known.epoch : 0);
    const result = await this.#options.store.nextEpoch(shard);
    if (this.#stopping.signal.aborted) return result;
    if (result.status === 'halted') {
      this.#tell([...this.#halts, result.halt]);
      return result;
    }
    const detail =
      result.identity !== identity
        ? otherStore(result.identity)
        : result.epoch > expected
          ? null
          : `epoch ${expected} was given out, and now ${result.epoch}`;
    if (detail !== null) return { status: 'halted', halt: this.#noticed(null, detail) };
    this.#saw(result.epoch);
    void this.#noteLater();
    const halt = known?.halts.find((one) => one.shard === null || one.shard === shard);
    if (halt === undefined || this.#stopping.signal.aborted) return result;
    this.#tell([...this.#halts, halt]);
    return { status: 'halted', halt };
  }

  /**
   * A shard has halted. Resolves when the halt is recorded in the store and at the broker, where every other worker sees it; until
   * then the shard keeps its deliveries. Never rejects.
   */
  async putOnRecord(shard: number, detail: string): Promise<void> {
    if (!this.#halts.some((halt) => halt.shard === shard || halt.shard === null)) this.#noticed(shard, detail);
    await (this.#records.get(null) ?? this.#records.get(shard));
  }

  /** Looks now instead of at the next interval: a store that was unavailable may have lost data, and the halts with it. */
  lookNow(): void {
    if (this.#timer === null) return;
    this.#timer.cancel();
    void this.#look(true);
  }

  /**
   * Looks no more. Resolves when the broker has the epochs of this worker on record, or after `timeoutMs`: once the worker has ended, no
   * other place shows that a store is an older copy. Never rejects.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping.abort();
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#identity !== null && !isAll(this.#halts)) await within(this.#options.time, this.#noteLater(), timeoutMs);
  }

  #saw(epoch: number): void {
    if (epoch > this.#highest) this.#highest = epoch;
  }

  #lookLater(): void {
    if (this.#stopping.signal.aborted) return;
    this.#timer = this.#options.time.after(this.#options.intervalMs, () => void this.#look());
  }

  async #look(isBack = false): Promise<void> {
    this.#timer = null;
    // Not when it has just come back: a replica loses the connection with each refusal, and would be tried without a pause.
    const trying = isBack ? null : this.#tryWrite();
    try {
      if (!isAll(this.#halts)) await this.#lookAtStore(isBack);
      if (this.#halts.length > 0 && this.#pending === 0) await this.#lookAtHalts();
      this.#trouble = null;
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#couldNotLook(error);
    }
    await trying;
    this.#lookLater();
  }

  /** An unavailable store proves nothing, and the shards notice it by themselves; that only this is refused they do not. */
  #couldNotLook(error: unknown): void {
    if (!(error instanceof UnavailableError)) return this.#options.onError(error);
    if (this.#trouble !== error.message) {
      this.#options.log.warn({ cause: messageOf(error) }, 'whether the store went backwards cannot be seen now');
    }
    this.#trouble = error.message;
  }

  /** A worker that has nothing to commit would not notice a store that only reads. */
  async #tryWrite(): Promise<void> {
    const { store, log, onError } = this.#options;
    try {
      await store.tryWrite();
      if (this.#refusal !== null) log.info({}, 'the store takes writes again');
      this.#refusal = null;
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      if (!(error instanceof UnavailableError)) return onError(error);
      if (this.#refusal === null) log.warn({ cause: messageOf(error) }, 'the store takes no writes: not ready');
      this.#refusal = error.message;
    }
  }

  async #lookAtStore(isBack: boolean): Promise<void> {
    // Read before asking: an epoch seen while the answer is under way may be newer than the answer.
    const expected = this.#highest;
    const { identity, epoch, halts } = await this.#kept.streamState();
    if (this.#stopping.signal.aborted) return;
    if (identity !== this.#identity) this.#noticed(null, otherStore(identity));
    else if (epoch < expected) this.#noticed(null, `epoch ${expected} was given out, but the store's counter stands at ${epoch}`);
    else {
      this.#saw(epoch);
      void this.#noteLater();
      this.#tellMore(halts);
      if (isBack) this.#tellMore((await this.#readRecord())?.halts ?? []);
    }
  }

  #tellMore(halts: readonly Halt[]): void {
    const others = halts.filter(({ shard }) => !this.#halts.some((halt) => halt.shard === shard));
    if (others.length > 0) this.#tell([...this.#halts, ...others]);
  }

  /** Whether an operator has ended the halts: the next sessions then take the store as it is. */
  async #lookAtHalts(): Promise<void> {
    const { store, record, time } = this.#options;
    const known = await record.read();
    const { state, halts } = await lookForHalts(this.#kept, known, time);
    if (this.#stopping.signal.aborted || this.#pending > 0) return;
    if (isAll(this.#halts) && !isAll(halts)) {
      this.#identity = state.identity ?? (await store.identify());
      this.#highest = Math.max(state.epoch, known?.epoch ?? 0);
    }
    this.#tell(halts);
  }

  #noticed(shard: number | null, detail: string): Halt {
    const halt = { shard, detail, at: isoNow(this.#options.time) };
    this.#pending++;
    this.#records.set(
      shard,
      this.#record(halt).finally(() => this.#pending--),
    );
    this.#tell([...this.#halts, halt]);
    return halt;
  }

  #tell(halts: readonly Halt[]): void {
    this.#halts = halts;
    for (const shard of this.#records.keys()) if (!halts.some((halt) => halt.shard === shard)) this.#records.delete(shard);
    for (const shard of this.#options.shards) {
      const halt = halts.find((one) => one.shard === null || one.shard === shard.shard);
      if (halt === undefined) void shard.resume();
      else shard.haltBecauseStoreWentBackwards(halt.detail);
    }
  }

  /** In both places: either record may be lost, or invisible to other workers. */
  async #record(halt: Halt): Promise<void> {
    await Promise.all([this.#untilDone(() => this.#haltInStore(halt)), this.#untilDone(() => this.#haltAtBroker(halt))]);
  }

  async #untilDone(attempt: () => Promise<void>): Promise<void> {
    const { log, time } = this.#options;
    for (let failures = 1; !this.#stopping.signal.aborted; failures++) {
      try {
        return await attempt();
      } catch (error) {
        if (failures === 1) log.warn({ cause: messageOf(error) }, 'a halt cannot be recorded yet');
        await sleep(time, backOffMs(retry, failures, time), this.#stopping.signal);
      }
    }
  }

  /** Only the stream's own store is marked as halted. Without a record at the broker, the store is the only place for the halt. */
  async #haltInStore(halt: Halt): Promise<void> {
    const { store, record } = this.#options;
    const { identity } = await store.streamState();
    if (this.#isForeign(identity) && (await record.read())?.identity != null) return;
    await store.halt(halt);
  }

  async #haltAtBroker(halt: Halt): Promise<void> {
    const { store, record } = this.#options;
    // A store that does not answer may be the stream's.
    const { identity } = await store.streamState().catch(() => ({ identity: null }));
    if (this.#isForeign(identity)) return;
    await record.change((known) => {
      if (known === null || this.#isForeign(known.identity) || known.halts.some(({ shard }) => shard === halt.shard)) return null;
      return { ...this.#updated(known), halts: [...known.halts, halt] };
    });
  }

  #isForeign(identity: string | null): boolean {
    return identity !== null && identity !== this.#identity;
  }

  /** All who ask during a reading share the next one: the running one may have begun too early for them. */
  #readRecord(): Promise<StreamRecord | null> {
    this.#nextReading ??= this.#reading
      .catch(() => undefined)
      .then(() => {
        this.#nextReading = null;
        const reading = this.#options.record.read();
        this.#reading = reading;
        return reading;
      });
    return this.#nextReading;
  }

  async #noteLater(): Promise<void> {
    const { time } = this.#options;
    this.#noting ??= this.#note()
      .then(
        (isOurs) => {
          // Neither store is wrong; this worker is connected to the stream's previous one.
          if (!isOurs && !this.#stopping.signal.aborted)
            this.#tell([{ shard: null, detail: 'an operator has given the stream another store', at: isoNow(time) }]);
        },
        // The next epoch, the next look or the end makes up for it.
        () => undefined,
      )
      .finally(() => (this.#noting = null));
    await this.#noting;
  }

  /** Records the known epochs at the broker, including those that arrive meanwhile. Returns whether this is the stream's store. */
  async #note(): Promise<boolean> {
    while (this.#noted < this.#highest) {
      const upTo = this.#highest;
      const kept = await this.#options.record.change((known) => {
        const updated = known === null ? null : this.#updated(known);
        return updated === null || (updated.epoch === known?.epoch && updated.identity === known.identity) ? null : updated;
      });
      if (kept !== null && kept.identity !== this.#identity) return this.#options.record.trouble !== null;
      this.#noted = upTo;
    }
    return true;
  }

  #updated(known: StreamRecord): StreamRecord {
    return !this.#isForeign(known.identity) ? { ...known, identity: this.#identity, epoch: Math.max(known.epoch, this.#highest) } : known;
  }
}

function isAll(halts: readonly Halt[]): boolean {
  return halts.some(({ shard }) => shard === null);
}

function otherStore(identity: string | null): string {
  return identity === null
    ? 'the store no longer knows this stream: it was emptied, or is another one'
    : 'the store is another one than before';
}
