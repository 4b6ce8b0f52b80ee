/**
 * Notices a store that went backwards: emptied, restored from an old copy, or exchanged for another. Epochs only ever grow and
 * the identity never changes, so a counter that is lower than one already seen, or that gives one out again, proves that
 * committed versions are gone too, whether or not an entity of ours shows it. Going on would apply old events again.
 *
 * A halt is put on record in the store and, because what a store lost it does not know, at the broker. Every later session, of
 * whichever worker, looks at both before it begins. It lasts until an operator ends it; then the shards go on by themselves. A worker
 * that finds itself at another store than the broker knows halts alone, until it is back at the right one.
 */
import { messageOf, UnavailableError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { StreamRecord, StreamRecordKeeper } from '../rabbitmq/stream-record.ts';
import { lookForHalts } from '../stores/halts.ts';
import type { EpochResult, Halt, Store } from '../stores/store.ts';
import { backOffMs, isoNow, sleep, type Time, type Timer } from '../time.ts';

export interface StoreWatchOptions {
  readonly store: Pick<Store, 'streamState' | 'nextEpoch' | 'identify' | 'halt' | 'listEntities'>;
  /** The broker's side. */
  readonly record: Pick<StreamRecordKeeper, 'read' | 'change' | 'trouble'>;
  readonly intervalMs: number;
  readonly shards: readonly HaltableShard[];
  readonly onError: (error: unknown) => void;
  readonly metrics: Pick<Metrics, 'storeUnavailable'>;
  readonly log: Pick<Log, 'warn'>;
  readonly time: Time;
}

export interface HaltableShard {
  readonly shard: number;
  haltBecauseStoreWentBackwards(detail: string): void;
  /** Of one that is not halted nothing comes. */
  resume(): Promise<void>;
}

const retry = { initialMs: 100, maxMs: 2_000 };
const epochBackOff = { initialMs: 100, maxMs: 5_000 };

export class StoreWatch {
  readonly #options: StoreWatchOptions;
  readonly #stopping = new AbortController();
  /** Of the store that was begun with; null until then. */
  #identity: string | null = null;
  #highest = 0;
  #halts: readonly Halt[] = [];
  /** Of the halts that were noticed here: settled once they are on record. */
  readonly #records = new Map<number | null, Promise<void>>();
  #pending = 0;
  #timer: Timer | null = null;
  /** The highest epoch that the broker's side knows of. */
  #noted = -1;
  #noting: Promise<void> | null = null;
  #reading: Promise<unknown> = Promise.resolve();
  #nextReading: Promise<StreamRecord | null> | null = null;

  constructor(options: StoreWatchOptions) {
    this.#options = options;
  }

  /** What is on record, as of the last look. */
  get halts(): readonly Halt[] {
    return this.#halts;
  }

  start(): void {
    this.#lookLater();
  }

  /**
   * Compares the store with what the broker knows of it, before anything is decided from either. A stream without a store gets
   * this one. @throws UnavailableError
   */
  async begin(): Promise<void> {
    const { store, record, log, time } = this.#options;
    const known = await record.read();
    const { state, halts } = await lookForHalts(store, known, time);
    if (!isAll(halts)) {
      this.#identity = await store.identify();
      this.#highest = Math.max(state.epoch, known?.epoch ?? 0);
      // A broker short of memory takes no note, and needs workers that start.
      if (known?.identity === this.#identity) void this.#noteLater();
      // Of two that begin with different stores at once, one finds the other's.
      else if (!(await this.#note())) return this.begin();
    }
    if (record.trouble !== null) {
      log.warn({ cause: record.trouble }, 'the broker keeps no record of the store: one that is empty or old is not noticed at a start');
    }
    this.#tell(halts);
  }

  /** Asks until the store answers. Null when `signal` aborted first. */
  async nextEpoch(shard: number, signal: AbortSignal): Promise<EpochResult | null> {
    const { metrics, log, time } = this.#options;
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        const result = await this.#nextEpoch(shard);
        return signal.aborted ? null : result;
      } catch (error) {
        if (signal.aborted) return null;
        if (!(error instanceof UnavailableError)) throw error;
        metrics.storeUnavailable();
        if (failures === 1) log.warn({ shard, cause: error.message }, 'the store is unavailable: no epoch yet');
        await sleep(time, backOffMs(epochBackOff, failures, time), signal);
      }
    }
    return null;
  }

  /** A store that was emptied counts from 1, and might have caught up before anybody looks: the identity tells. */
  async #nextEpoch(shard: number): Promise<EpochResult> {
    // Taken before asking, as below.
    const [expected, identity] = [this.#highest, this.#identity];
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
    const known = await this.#readRecord();
    void this.#noteLater();
    const halt = known?.halts.find((one) => one.shard === null || one.shard === shard);
    if (halt === undefined || this.#stopping.signal.aborted) return result;
    this.#tell([...this.#halts, halt]);
    return { status: 'halted', halt };
  }

  /**
   * A shard has halted. Resolves when every other worker sees that, in the store and at the broker; until then nobody else is to be
   * given what the shard has. Never rejects.
   */
  async putOnRecord(shard: number, detail: string): Promise<void> {
    if (!this.#halts.some((halt) => halt.shard === shard || halt.shard === null)) this.#noticed(shard, detail);
    await (this.#records.get(null) ?? this.#records.get(shard));
  }

  /** Looks now and not only when it is time: a store that was unavailable may have come back with less, and without a halt. */
  lookNow(): void {
    if (this.#timer === null) return;
    this.#timer.cancel();
    void this.#look(true);
  }

  stop(): void {
    this.#stopping.abort();
    this.#timer?.cancel();
    this.#timer = null;
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
    try {
      if (!isAll(this.#halts)) await this.#lookAtStore(isBack);
      if (this.#halts.length > 0 && this.#pending === 0) await this.#lookAtHalts();
    } catch (error) {
      // An unreachable store says nothing; the shards notice it by themselves.
      if (!this.#stopping.signal.aborted && !(error instanceof UnavailableError)) this.#options.onError(error);
    }
    this.#lookLater();
  }

  async #lookAtStore(isBack: boolean): Promise<void> {
    // Taken before asking: an epoch seen while the answer is on its way may be newer than the answer.
    const expected = this.#highest;
    const { identity, epoch, halts } = await this.#options.store.streamState();
    if (this.#stopping.signal.aborted) return;
    if (identity !== this.#identity) this.#noticed(null, otherStore(identity));
    else if (epoch < expected) this.#noticed(null, `epoch ${expected} was given out, but the store's counter stands at ${epoch}`);
    else {
      this.#saw(epoch);
      const known = isBack ? await this.#readRecord() : null;
      const others = [...halts, ...(known?.halts ?? [])].filter(({ shard }) => !this.#halts.some((halt) => halt.shard === shard));
      if (others.length > 0) this.#tell([...this.#halts, ...others]);
    }
  }

  /** Whether an operator has ended them: what begins then begins from the store as it is. */
  async #lookAtHalts(): Promise<void> {
    const { store, record, time } = this.#options;
    const known = await record.read();
    const { state, halts } = await lookForHalts(store, known, time);
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

  /** In both places: what is in one may be lost, or not be seen by others. */
  async #record(halt: Halt): Promise<void> {
    await Promise.all([this.#untilDone(() => this.#haltInStore(halt)), this.#untilDone(() => this.#haltAtBroker(halt))]);
  }

  async #untilDone(attempt: () => Promise<void>): Promise<void> {
    const { log, time } = this.#options;
    for (let failures = 1; !this.#stopping.signal.aborted; failures++) {
      try {
        return await attempt();
      } catch (error) {
        if (failures === 1) log.warn({ cause: messageOf(error) }, 'a halt cannot be put on record yet');
        await sleep(time, backOffMs(retry, failures, time), this.#stopping.signal);
      }
    }
  }

  /** A store that is not the stream's is none of ours to halt; where the broker does not know whose it is, it is the only place. */
  async #haltInStore(halt: Halt): Promise<void> {
    const { store, record } = this.#options;
    const { identity } = await store.streamState();
    if (this.#isForeign(identity) && (await record.read())?.identity != null) return;
    await store.halt(halt);
  }

  async #haltAtBroker(halt: Halt): Promise<void> {
    const { store, record } = this.#options;
    // One that does not answer may be the stream's.
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

  /** One reading for all who ask while another is under way: that one may have begun too early for them. */
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
          // Nothing is wrong with either store; this worker is at the one that the stream had.
          if (!isOurs) this.#tell([{ shard: null, detail: 'an operator has given the stream another store', at: isoNow(time) }]);
        },
        // The next epoch, or whoever looks next, makes up for it.
        () => undefined,
      )
      .finally(() => (this.#noting = null));
    await this.#noting;
  }

  /** Tells the broker of the epochs that are known, what comes meanwhile included. Answers whether the stream's store is this one. */
  async #note(): Promise<boolean> {
    while (this.#noted < this.#highest && !this.#stopping.signal.aborted) {
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
