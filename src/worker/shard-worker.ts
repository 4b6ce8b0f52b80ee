/**
 * One shard of this worker: brings the channel, the sequencer and the store together and decides nothing
 * itself. What arrives is decoded and given to the sequencer; what it wants done is carried out; what became
 * of that is given back. There is one timer, set to the sequencer's next deadline.
 *
 * Each life of the channel is a session with an epoch of its own. When the channel is lost the session ends:
 * answers that come later are dropped, and everything that was not settled comes back from the broker.
 */
import { InvariantError, messageOf } from '../errors.ts';
import type { EncodedEvent } from '../events/encode.ts';
import type { Decoded, RawMessage } from '../events/event.ts';
import { HourlyPerEntity } from '../observability/hourly.ts';
import type { ShardReading, ShardState } from '../observability/metrics.ts';
import type { Delivery, Fact, RefusedDelivery } from '../ordering/facts.ts';
import type { SequencerLimits } from '../ordering/limits.ts';
import { ShardSequencer } from '../ordering/sequencer.ts';
import type { RawDelivery, ShardChannel, ShardChannelEvents } from '../rabbitmq/shard-channel.ts';
import type { Timer } from '../time.ts';
import { type SessionOptions, ShardSession } from './shard-session.ts';
import type { RepairableGap, RepairableShard } from './gap-repair.ts';
import type { HaltableShard } from './store-watch.ts';
import type { WatchedShard } from './watchdog.ts';
import { gapStatus, type ShardStatus } from './worker-status.ts';

export interface ShardWorkerOptions extends Omit<SessionOptions, 'generation' | 'waiting' | 'repetitions' | 'settle' | 'handle' | 'refused' | 'fail'> {
  readonly limits: SequencerLimits;
  readonly decode: (message: RawMessage) => Decoded;
  readonly openChannel: (events: ShardChannelEvents) => ShardChannel;
  /** It has stopped. What it was given it keeps until this resolves, so that no standby is given that before the halt is on record. */
  readonly onHalt: (cause: 'store-went-backwards' | 'bug', error: Error) => Promise<void>;
}

/** Gaps that `/status` tells one by one. */
const gapsInStatus = 100;

export class ShardWorker implements WatchedShard, RepairableShard, HaltableShard {
  readonly #options: ShardWorkerOptions;
  readonly #sequencer: ShardSequencer;
  #channel: ShardChannel;
  #session: ShardSession | null = null;
  #timer: Timer | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #halted = false;
  #resuming = false;
  readonly #repetitions = new HourlyPerEntity();
  /** As the sequencer was told. */
  #memoryIsFull = false;
  #stopped = false;
  #haltEnding: Promise<void> = Promise.resolve();
  #draining: (() => void) | null = null;

  constructor(options: ShardWorkerOptions) {
    this.#options = options;
    this.#sequencer = new ShardSequencer(options.limits);
    this.#channel = this.#makeChannel();
  }

  start(): void {
    this.#channel.start();
  }

  /** Finishes what is in flight, then closes the channel without a cancel, so that the rest goes to the successor in order. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    if (this.#session !== null && !this.#halted) await this.#drain(timeoutMs);
    this.#endSession();
    await this.#channel.stop();
  }

  /** The store has lost what was committed: nothing more may be decided from it. */
  haltBecauseStoreWentBackwards(detail: string): void {
    this.#halt('store-went-backwards', new Error(detail));
  }

  /** An operator has ended the halt: begins as a newcomer, who knows nothing. */
  async resume(): Promise<void> {
    this.#resuming = true;
    await this.#haltEnding;
    // Halted anew meanwhile, or gone on already.
    if (!this.#resuming || !this.#halted || this.#stopped) return;
    this.#resuming = this.#halted = false;
    this.#channel = this.#makeChannel();
    this.#channel.start();
  }

  get shard(): number {
    return this.#options.shard;
  }

  get queue(): string {
    return this.#options.queue;
  }

  settledDeliveries(): number | null {
    const session = this.#session;
    if (session?.epoch == null || this.state !== 'consuming' || this.#sequencer.overview().unsettled + session.outside > 0) return null;
    return this.#options.shardMetrics.totals.delivered;
  }

  async isAlive(): Promise<boolean> {
    return this.#session !== null && (await this.#channel.isAlive(this.#session.generation));
  }

  consumeAnew(cause: Error): void {
    if (this.#session !== null) this.#channel.abandon(this.#session.generation, cause);
  }

  gapsOlderThan(ms: number): readonly RepairableGap[] {
    const session = this.#session;
    if (session === null || this.state !== 'consuming') return [];
    const gaps = this.#sequencer.openGaps(Number.POSITIVE_INFINITY, this.#options.time.nowMs()).filter(({ waitedMs }) => waitedMs >= ms);
    return gaps
      .map(({ lane }) => ({ entity: lane.entity, from: lane.version + 1, to: (lane.held.lowest() ?? 0) - 1, generation: session.generation }))
      .filter(({ from, to }) => from >= 0 && from <= to);
  }

  deliverMissing(generation: number, events: readonly EncodedEvent[]): boolean {
    const session = this.#session;
    if (session === null || session.generation !== generation || this.state !== 'consuming') return false;
    const deliveries = events.map((encoded) => ({ tag: session.fetched(encoded), event: encoded.event }));
    this.#handle([{ kind: 'delivered', deliveries }]);
    return true;
  }

  get state(): ShardState {
    if (this.#halted) return 'halted';
    if (this.#session === null) return 'closed';
    if (this.#draining !== null) return 'draining';
    return this.#session.waitsForEpoch || this.#sequencer.overview().paused ? 'paused' : 'consuming';
  }

  reading(): ShardReading {
    const { gaps, unsettled } = this.#sequencer.overview();
    const [oldest] = this.#sequencer.openGaps(1, this.#options.time.nowMs());
    const gapOldestSeconds = (oldest?.waitedMs ?? 0) / 1_000;
    return { shard: this.#options.shard, state: this.state, gapsOpen: gaps, gapOldestSeconds, unacked: unsettled + (this.#session?.outside ?? 0), held: this.#sequencer.heldByEntityType() };
  }

  status(): ShardStatus {
    const { shard, queue, shardMetrics } = this.#options;
    const open_gaps = this.#sequencer.openGaps(gapsInStatus, this.#options.time.nowMs()).map(gapStatus);
    const epoch = this.#session?.epoch ?? null;
    return { shard, queue, channel: this.state, epoch, totals: { ...shardMetrics.totals }, ...this.#sequencer.overview(), open_gaps };
  }

  #makeChannel(): ShardChannel {
    return this.#options.openChannel({
      opened: (generation) => this.#opened(generation),
      delivered: (generation, deliveries) => this.#delivered(generation, deliveries),
      lost: (generation, cause) => this.#lost(generation, cause),
    });
  }

  #opened(generation: number): void {
    if (this.#halted) return;
    this.#endSession();
    this.#options.log.info({ shard: this.shard, generation }, 'consuming');
    this.#session = new ShardSession({
      ...this.#options,
      generation,
      settle: {
        ack: (tag, multiple) => this.#channel.ack(generation, tag, multiple),
        reject: (tag) => this.#channel.reject(generation, tag),
        giveBack: (tag) => this.#channel.giveBack(generation, tag),
      },
      repetitions: this.#repetitions,
      waiting: () => this.#sequencer.waiting,
      handle: (facts) => this.#handle(facts),
      refused: (detail) => this.haltBecauseStoreWentBackwards(detail),
      fail: (error) => this.#failed(error),
    });
  }

  #delivered(generation: number, raw: readonly RawDelivery[]): void {
    const session = this.#session;
    if (session === null || session.generation !== generation || this.#halted) return;
    let redelivered = 0;
    const deliveries = session.admit(raw).map(({ delivery: { tag, redelivered: again, message }, bytes }): Delivery | RefusedDelivery => {
      if (again) redelivered++;
      const decoded = this.#options.decode(message);
      session.arrived(tag, message, decoded);
      return decoded.ok ? { tag, event: decoded.event, bytes } : { tag, refusal: decoded.refusal };
    });
    this.#options.shardMetrics.delivered(deliveries.length, redelivered);
    session.whenEpochIsKnown(() => this.#handle([{ kind: 'delivered', deliveries }]));
  }

  #lost(generation: number, cause: Error): void {
    if (this.#session?.generation !== generation) return;
    this.#options.log.warn({ shard: this.shard, generation, cause: cause.message }, 'the channel is lost; what was not settled comes back');
    this.#endSession();
  }

  #endSession(): void {
    if (this.#session === null) return;
    this.#session.end();
    this.#session = null;
    this.#memoryIsFull = false;
    this.#sequencer.handle(this.#options.time.nowMs(), { kind: 'channelLost' });
    this.#setTimer();
    this.#draining?.();
  }

  #handle(facts: readonly Fact[]): void {
    const session = this.#session;
    if (session === null) return;
    const isFull = session.outside > 0;
    const memory: readonly Fact[] = isFull === this.#memoryIsFull ? [] : [{ kind: 'memoryFull', isFull }];
    this.#memoryIsFull = isFull;
    let turn: number | null = null;
    try {
      for (const fact of memory.concat(facts)) {
        for (const effect of this.#sequencer.handle(this.#options.time.nowMs(), fact)) {
          if (effect.kind === 'drained') this.#draining?.();
          else if (effect.kind === 'halt') this.#haltEffect(session, effect.cause, effect.detail);
          else if (effect.kind === 'turn') turn = effect.turn;
          else session.carryOut(effect);
        }
      }
      session.flush();
      if (turn !== null) void this.#giveTurn(session, turn);
    } catch (error) {
      this.#failed(error);
    }
    this.#setTimer();
  }

  /** Behind the acknowledgements that have just gone; what the broker sends before it answers is delivered at the end of that turn of the event loop, before this. */
  async #giveTurn(session: ShardSession, turn: number): Promise<void> {
    // Without an answer the channel is lost, and the gap with it.
    if (!(await this.#channel.roundTrip(session.generation))) return;
    this.#options.time.afterTurn(() => {
      if (this.#session === session) this.#handle([{ kind: 'turned', turn }]);
    });
  }

  #haltEffect(session: ShardSession, cause: 'fenced' | 'store-went-backwards', detail: string): void {
    if (cause === 'store-went-backwards') return this.#halt(cause, new Error(detail));
    // Overtaken: the broker has most likely given the queue to another already. Start over as a newcomer.
    this.#options.log.warn({ shard: this.shard, epoch: session.epoch, detail }, 'fenced: another owner has taken over');
    const { generation } = session;
    session.settle();
    this.#endSession();
    this.#channel.abandon(generation, new Error(detail));
  }

  #failed(error: unknown): void {
    this.#halt('bug', error instanceof Error ? error : new InvariantError(messageOf(error)));
  }

  #halt(cause: 'store-went-backwards' | 'bug', error: Error): void {
    this.#resuming = false;
    if (this.#halted) return;
    this.#halted = true;
    this.#endSession();
    const channel = this.#channel;
    this.#haltEnding = this.#options.onHalt(cause, error).then(() => channel.stop());
  }

  #drain(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        timer.cancel();
        this.#draining = null;
        const { operations } = this.#sequencer.overview();
        if (operations > 0) this.#options.log.warn({ shard: this.shard, operations }, 'stopped before everything in flight was done');
        resolve();
      };
      const timer = this.#options.time.after(timeoutMs, finish);
      this.#draining = finish;
      this.#handle([{ kind: 'drainRequested' }]);
    });
  }

  #setTimer(): void {
    const dueMs = this.#session === null || this.#halted ? null : this.#sequencer.nextDeadlineMs();
    if (dueMs === null) return this.#clearTimer();
    if (this.#timer !== null && this.#timerAtMs <= dueMs) return;
    this.#clearTimer();
    this.#timerAtMs = dueMs;
    const waitMs = Math.min(Math.max(0, Math.ceil(dueMs - this.#options.time.nowMs())), 2 ** 31 - 1);
    this.#timer = this.#options.time.after(waitMs, () => {
      this.#timer = null;
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      this.#handle([{ kind: 'timePassed' }]);
      this.#setTimer();
    });
  }

  #clearTimer(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#timerAtMs = Number.POSITIVE_INFINITY;
  }
}
