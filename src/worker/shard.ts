/**
 * One shard of this worker: connects the channel, the sequencer and the store, and decides nothing itself. It decodes what arrives
 * and gives it to the sequencer, carries out the effects, and gives the answers back. There is one timer, set to the
 * sequencer's next deadline.
 *
 *   delivered ─▶ intake ─▶ decode ─▶ sequencer ─▶ effects ─┬─▶ acknowledger
 *                                       ▲                  └─▶ store batches ─┐
 *                                       └──────────── facts ──────────────────┘
 *
 * Each life of the channel is a session with its own epoch, delivery tags and operations at the store. When the channel is lost the
 * session ends: later answers are dropped, and everything that was not settled comes back from the broker.
 */
import { setMaxListeners } from 'node:events';
import { InvariantError, messageOf } from '../errors.ts';
import { asDelivered, type EncodedEvent } from '../events/encode.ts';
import type { Decoded, RawMessage } from '../events/event.ts';
import { HourlyPerEntity } from '../observability/log.ts';
import type { ShardReading, ShardState } from '../observability/metrics.ts';
import { gapStatus, type ShardStatus } from '../observability/worker-status.ts';
import type { Delivery, Effect, Fact, Outcome, RefusedDelivery, Rejection, SequencerLimits } from '../ordering/facts.ts';
import { ShardSequencer } from '../ordering/sequencer.ts';
import {
  type OpenShardChannel,
  type RawDelivery,
  type ShardChannel,
  type ShardChannelEvents,
  Acknowledger,
} from '../rabbitmq/shard-channel.ts';
import type { EpochResult, Store } from '../stores/store.ts';
import { type Timer, within } from '../time.ts';
import type { AutoReplay } from './auto-replay.ts';
import { DeliveryReport, type DeliveryReportOptions } from './delivery-report.ts';
import type { RepairableGap, RepairableShard } from './gap-repair.ts';
import { Intake } from './intake.ts';
import type { WorkerMemory } from './memory.ts';
import type { HandlerRun, ProcessingOptions, RetryLimits } from './processing.ts';
import { type BatchResult, StoreBatches } from './store-batch.ts';
import type { HaltableShard } from './store-watch.ts';
import { leaveUnused, takeLeave, Trials, type TrialsOptions } from './trials.ts';
import type { WatchedShard } from './watchdog.ts';

export interface ShardOptions
  extends Omit<DeliveryReportOptions, 'repetitions'>,
    Pick<ProcessingOptions, 'processors' | 'maxStateBytes' | 'eventLog' | 'isolation'>,
    Pick<HandlerRun, 'inWork'>,
    Pick<TrialsOptions, 'record' | 'bench'> {
  readonly limits: SequencerLimits;
  readonly store: Store;
  readonly memory: WorkerMemory;
  readonly retry: RetryLimits;
  readonly decode: (message: RawMessage) => Decoded;
  readonly openChannel: (events: ShardChannelEvents) => ShardChannel;
  /** Of this shard, asked for until the store answers. Rejects once `signal` is aborted and the store does not answer. */
  readonly nextEpoch: (signal: AbortSignal) => Promise<EpochResult>;
  /** Null: what was dead-lettered waits for an operator. */
  readonly autoReplay: Pick<AutoReplay, 'advanced' | 'search'> | null;
  /** Sends what a handler returned to whoever asked for it. */
  readonly reply: (replyTo: string, correlationId: string | undefined, result: string) => void;
  /** It has halted. The channel stays open until this resolves, so that no standby gets the deliveries before the halt is on record. */
  readonly onHalt: (cause: 'store-went-backwards' | 'bug', error: Error) => Promise<void>;
}

/** One life of the channel. */
interface Session {
  readonly channel: OpenShardChannel;
  /** Null until the store has given one out. */
  epoch: number | null;
  /** What waits for the epoch; null where nothing does. */
  untilEpoch: (() => void)[] | null;
  readonly life: AbortController;
  readonly acknowledger: Acknowledger;
  readonly report: DeliveryReport;
  readonly intake: Intake;
  /** What is not settled yet, by delivery tag. */
  readonly messages: Map<number, RawMessage>;
  /** What handlers returned for deliveries whose sender wants to know. */
  readonly results: Map<number, string>;
  /** Null until there is an epoch. */
  batches: StoreBatches | null;
  /** Null where the session before took its leave. */
  trials: Trials | null;
  /** Events that were fetched have tags below those of the broker, which count from 1. */
  lastFetchedTag: number;
}

const gapsInStatus = 100;

export class Shard implements ShardChannelEvents, WatchedShard, RepairableShard, HaltableShard {
  readonly shard: number;
  readonly queue: string;
  readonly #options: ShardOptions;
  readonly #sequencer: ShardSequencer;
  readonly #repetitions = new HourlyPerEntity();
  #channel: ShardChannel;
  #session: Session | null = null;
  #timer: Timer | null = null;
  #timerAtMs = 0;
  /** As last reported to the sequencer. */
  #memoryIsFull = false;
  #halted = false;
  #haltEnding: Promise<void> = Promise.resolve();
  #resuming = false;
  #stopped = false;
  #draining: (() => void) | null = null;
  readonly #failed = (error: unknown): void => this.#halt('bug', error instanceof Error ? error : new InvariantError(messageOf(error)));

  constructor(options: ShardOptions) {
    this.#options = options;
    this.shard = options.shard;
    this.queue = options.queue;
    this.#sequencer = new ShardSequencer(options.limits);
    this.#channel = options.openChannel(this);
  }

  start(): void {
    this.#channel.start();
  }

  /** Finishes what is in flight, then closes the channel without a cancel, so that the rest goes to the successor in order. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    if (this.#session !== null && !this.#halted) await this.#drain(timeoutMs);
    // Before the channel is closed: the next session then begins without suspects.
    await this.#endSession();
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
    // Halted again meanwhile, or resumed already.
    if (!this.#resuming || !this.#halted || this.#stopped) return;
    this.#resuming = this.#halted = false;
    this.#channel = this.#options.openChannel(this);
    this.#channel.start();
  }

  settledDeliveries(): number | null {
    const session = this.#session;
    if (session?.epoch == null || this.state !== 'consuming' || this.#sequencer.overview().unsettled + session.intake.outside > 0)
      return null;
    return this.#options.shardMetrics.totals.delivered;
  }

  async isAlive(): Promise<boolean> {
    return this.#session !== null && (await this.#session.channel.isAlive());
  }

  reopenChannel(cause: Error): void {
    this.#session?.channel.abandon(cause);
  }

  gapsOlderThan(ms: number): readonly RepairableGap[] {
    const session = this.#session;
    if (session === null || this.state !== 'consuming') return [];
    const gaps = this.#sequencer.openGaps(Number.POSITIVE_INFINITY, this.#options.time.nowMs()).filter(({ waitedMs }) => waitedMs >= ms);
    return gaps.flatMap(({ lane: { entity, known, held } }) => {
      const [from, to] = [known.version + 1, (held.lowest() ?? 0) - 1];
      return from >= 0 && from <= to ? [{ entity, from, to, channel: session.channel }] : [];
    });
  }

  deliverMissing(channel: OpenShardChannel, events: readonly EncodedEvent[]): boolean {
    const session = this.#session;
    if (session === null || session.channel !== channel || this.state !== 'consuming') return false;
    const deliveries = events.map((encoded): Delivery => {
      const tag = --session.lastFetchedTag;
      session.messages.set(tag, asDelivered(encoded));
      return { tag, event: encoded.event, mayRepeat: true };
    });
    this.#handle([{ kind: 'delivered', deliveries }]);
    return true;
  }

  get state(): ShardState {
    if (this.#halted) return 'halted';
    if (this.#session === null) return 'closed';
    if (this.#draining !== null) return 'draining';
    return this.#session.untilEpoch !== null || this.#sequencer.overview().paused ? 'paused' : 'consuming';
  }

  reading(): ShardReading {
    const { gaps, unsettled } = this.#sequencer.overview();
    const gapOldestSeconds = (this.#sequencer.openGaps(1, this.#options.time.nowMs())[0]?.waitedMs ?? 0) / 1_000;
    const unacked = unsettled + (this.#session?.intake.outside ?? 0);
    return { shard: this.shard, state: this.state, gapsOpen: gaps, gapOldestSeconds, unacked, held: this.#sequencer.heldByEntityType() };
  }

  status(): ShardStatus {
    const { shard, queue } = this;
    const open_gaps = this.#sequencer.openGaps(gapsInStatus, this.#options.time.nowMs()).map(gapStatus);
    const [epoch, trials] = [this.#session?.epoch ?? null, this.#session?.trials?.status() ?? null];
    const { totals } = this.#options.shardMetrics;
    return { shard, queue, ...this.#sequencer.overview(), state: this.state, epoch, totals: { ...totals }, open_gaps, trials };
  }

  opened(channel: OpenShardChannel): void {
    if (this.#halted) return;
    void this.#endSession();
    this.#options.log.info({ shard: this.shard, generation: channel.generation }, 'consuming');
    const life = new AbortController();
    // One for each handler that is running.
    setMaxListeners(0, life.signal);
    const messages = new Map<number, RawMessage>();
    const acknowledger = new Acknowledger(channel);
    const report = new DeliveryReport({ ...this.#options, repetitions: this.#repetitions }, messages);
    const intake = new Intake({
      memory: this.#options.memory.deliveries,
      waiting: () => this.#sequencer.waiting,
      giveBack: (tag) => acknowledger.giveBack(tag),
      onMissed: () => this.#handle([]),
      time: this.#options.time,
    });
    const known = { channel, life, acknowledger, report, intake, messages };
    this.#session = { ...known, epoch: null, untilEpoch: null, results: new Map(), batches: null, trials: null, lastFetchedTag: 0 };
  }

  delivered(channel: OpenShardChannel, raw: readonly RawDelivery[]): void {
    const session = this.#session;
    if (session?.channel !== channel || this.#halted) return;
    for (const { tag } of raw) session.acknowledger.arrived(tag);
    let redelivered = 0;
    const deliveries = session.intake
      .admit(raw)
      .map(({ delivery: { tag, redelivered: again, message }, bytes }): Delivery | RefusedDelivery => {
        if (again) redelivered++;
        const decoded = this.#options.decode(message);
        session.messages.set(tag, message);
        session.report.arrived(tag, message, decoded.ok ? decoded.event : decoded.refusal);
        if (!decoded.ok) return { tag, refusal: decoded.refusal };
        return again ? { tag, event: decoded.event, bytes, mayRepeat: true } : { tag, event: decoded.event, bytes };
      });
    this.#options.shardMetrics.delivered(deliveries.length, redelivered);
    this.#whenEpochIsKnown(session, () => this.#handle([{ kind: 'delivered', deliveries }]));
  }

  lost(channel: OpenShardChannel, cause: Error): void {
    if (this.#session?.channel !== channel) return;
    const about = { shard: this.shard, generation: channel.generation, cause: messageOf(cause) };
    this.#options.log.warn(about, 'the channel is lost; what was not settled comes back');
    void this.#endSession();
  }

  /** Resolves when the session has taken its leave in the store, or cannot. */
  #endSession({ takesLeave = true } = {}): Promise<void> {
    const session = this.#session;
    if (session === null) return Promise.resolve();
    this.#session = null;
    session.life.abort();
    session.batches?.end();
    session.report.ended();
    session.intake.end();
    // A handler that never ends keeps the session, but not what it was given.
    session.messages.clear();
    session.results.clear();
    session.untilEpoch = null;
    this.#memoryIsFull = false;
    this.#sequencer.handle(this.#options.time.nowMs(), { kind: 'channelLost' });
    this.#setTimer();
    this.#draining?.();
    return takesLeave ? takeLeave(session, this.#options) : Promise.resolve();
  }

  /** An epoch begins with the first delivery: a standby that gets none needs none. */
  #whenEpochIsKnown(session: Session, go: () => void): void {
    if (session.epoch !== null) go();
    else if (session.untilEpoch !== null) session.untilEpoch.push(go);
    else {
      session.untilEpoch = [go];
      void this.#askForEpoch(session);
    }
  }

  async #askForEpoch(session: Session): Promise<void> {
    const { signal } = session.life;
    try {
      const result = await this.#options.nextEpoch(signal);
      if (signal.aborted) return await leaveUnused(result, this.#options);
      if (result.status === 'ok') this.#begin(session, result);
      else this.haltBecauseStoreWentBackwards(result.halt.detail);
    } catch (error) {
      if (!signal.aborted) this.#failed(error);
    }
  }

  #begin(session: Session, { epoch, unfinished }: Extract<EpochResult, { readonly status: 'ok' }>): void {
    const { store, record, shard, memory, bench, time, autoReplay, log } = this.#options;
    session.epoch = epoch;
    autoReplay?.search(shard);
    const [life, fail] = [session.life.signal, this.#failed];
    if (unfinished !== null) session.trials = new Trials({ record, shard, epoch, unfinished, bench, life, fail, log, time });
    session.batches = new StoreBatches({
      store,
      shard,
      epoch,
      // The store may have lost its count of epochs and give one out twice.
      session: Math.floor(time.random() * 2 ** 52).toString(36),
      states: memory.states.newCache(),
      maxStateWorkBytes: memory.maxStateWorkBytes,
      time,
      processing: this.#processingOf(session),
      messages: session.messages,
      done: (result) => this.#stored(session, result),
      fail,
    });
    const waiting = session.untilEpoch ?? [];
    session.untilEpoch = null;
    for (const go of waiting) go();
  }

  #processingOf({ life, report, messages, trials }: Session): ProcessingOptions {
    const { processors, isolation, maxStateBytes, eventLog, retry, inWork, time, metrics } = this.#options;
    return {
      processors,
      isolation,
      maxStateBytes,
      eventLog,
      handlerRun: { limits: retry, life: life.signal, time, inWork, onAttempt: () => metrics.processorAttempted() },
      report,
      messages,
      trials: trials ?? this.#options.bench,
    };
  }

  /** What came of a batch at the store. */
  #stored(session: Session, { facts, rejections, results, parked, unparked, stillParked, unavailable, seconds }: BatchResult): void {
    const { metrics, shardMetrics, autoReplay, log } = this.#options;
    if (seconds !== null) metrics.committed(seconds);
    for (const error of unavailable) {
      metrics.storeUnavailable();
      log.warn({ shard: this.shard, cause: messageOf(error) }, 'the store did not answer as needed');
    }
    for (let count = 0; count < parked; count++) shardMetrics.parked();
    for (let count = 0; count < unparked; count++) shardMetrics.unparked();
    for (const { kind } of facts) if (kind === 'stale' || kind === 'fenced') shardMetrics.fenced();
    for (const { entity, version, parked: why } of stillParked) autoReplay?.advanced(this.shard, entity, version, why);
    for (const { tag, result } of results) this.#remember(session, tag, result);
    if (rejections.length > 0) this.#reject(session, rejections);
    this.#handle(facts);
  }

  #handle(facts: readonly Fact[]): void {
    const session = this.#session;
    if (session === null) return;
    const isFull = session.intake.outside > 0;
    const memory: readonly Fact[] = isFull === this.#memoryIsFull ? [] : [{ kind: 'memoryFull', isFull }];
    this.#memoryIsFull = isFull;
    let turn: number | null = null;
    try {
      for (const fact of memory.concat(facts)) {
        for (const effect of this.#sequencer.handle(this.#options.time.nowMs(), fact)) {
          if (effect.kind === 'turn') turn = effect.turn;
          else this.#carryOut(session, effect);
        }
      }
      // Once for all of them: acknowledgements, and the next batch.
      session.acknowledger.flush();
      this.#options.shardMetrics.givenBack(session.intake.refill());
      session.batches?.run();
      if (turn !== null) void this.#giveTurn(session, turn);
    } catch (error) {
      this.#failed(error);
    }
    this.#setTimer();
  }

  /** Carries one effect out, or queues it for the next batch at the store. */
  #carryOut(session: Session, effect: Exclude<Effect, { kind: 'turn' }>): void {
    switch (effect.kind) {
      case 'ack':
        return this.#ack(session, effect.outcome, effect.deliveries);
      case 'violation':
        return session.report.early(effect);
      case 'remembered':
        return this.#remember(session, effect.delivery.tag, effect.result);
      case 'absorbed':
        return session.report.absorbed(effect);
      case 'pause':
        return this.#options.log.warn({ shard: this.shard }, 'the store is unavailable: pausing');
      case 'resume':
        return this.#options.log.info({ shard: this.shard }, 'the store is back: going on');
      case 'drained':
        return this.#draining?.();
      case 'overtaken':
        return this.#startOver(session, effect.detail);
      case 'halt':
        return this.haltBecauseStoreWentBackwards(effect.detail);
      default:
        session.batches?.enqueue(effect);
    }
  }

  #ack(session: Session, outcome: Outcome, deliveries: readonly Delivery[]): void {
    const delivered = session.lastFetchedTag === 0 ? deliveries : deliveries.filter(({ tag }) => !isFetched(tag));
    session.report.settled(outcome, delivered);
    if (outcome === 'applied') this.#options.shardMetrics.repaired(deliveries.length - delivered.length);
    for (const { tag } of deliveries) {
      if (!isFetched(tag)) {
        this.#reply(session, tag);
        session.acknowledger.ack(tag);
      }
      forget(session, tag);
    }
    if (session.trials !== null) for (const { event } of deliveries) session.trials.settled(event);
  }

  #remember({ messages, results }: Session, tag: number, result: string): void {
    if (messages.get(tag)?.replyTo !== undefined) results.set(tag, result);
  }

  /** Before the acknowledgement: a crash in between sends the reply again rather than never. */
  #reply({ messages, results }: Session, tag: number): void {
    const [result, message] = [results.get(tag), messages.get(tag)];
    if (result !== undefined && message?.replyTo !== undefined) this.#options.reply(message.replyTo, message.correlationId, result);
  }

  #reject(session: Session, rejections: readonly Rejection[]): void {
    const { report, acknowledger } = session;
    const letters = rejections.filter(({ tag }) => !isFetched(tag));
    report.deadLettered(letters);
    for (const { tag } of letters) acknowledger.reject(tag);
    for (const rejection of rejections) {
      if (isFetched(rejection.tag)) report.fetchedWasRefused(rejection);
      if (rejection.event !== null) session.trials?.settled(rejection.event);
      forget(session, rejection.tag);
    }
  }

  /**
   * Asks the broker for an answer, behind the acknowledgements that were just sent. What it sends before the answer is delivered
   * at the end of that tick of the event loop, which is before `afterTick`.
   */
  async #giveTurn(session: Session, turn: number): Promise<void> {
    // Without an answer the channel is lost, and the gap with it.
    if (!(await session.channel.roundTrip())) return;
    this.#options.time.afterTick(() => {
      if (this.#session === session) this.#handle([{ kind: 'turned', turn }]);
    });
  }

  /** The broker has most likely given the queue to another worker already: begins as a newcomer. */
  #startOver({ epoch, channel, acknowledger }: Session, detail: string): void {
    this.#options.log.warn({ shard: this.shard, epoch, detail }, 'fenced: another owner has taken over');
    // What is committed is so whoever owns the shard by now.
    acknowledger.flush();
    void this.#endSession();
    channel.abandon(new Error(detail));
  }

  #halt(cause: 'store-went-backwards' | 'bug', error: Error): void {
    this.#resuming = false;
    if (this.#halted) return;
    this.#halted = true;
    // Nothing is written to a store that went backwards; and of a bug the event that it comes with may be the cause.
    void this.#endSession({ takesLeave: false });
    const channel = this.#channel;
    this.#haltEnding = this.#options.onHalt(cause, error).then(() => channel.stop());
  }

  async #drain(timeoutMs: number): Promise<void> {
    const drained = new Promise<void>((resolve) => (this.#draining = resolve));
    this.#handle([{ kind: 'drainRequested' }]);
    await within(this.#options.time, drained, timeoutMs);
    this.#draining = null;
    const { operations } = this.#sequencer.overview();
    if (operations > 0) this.#options.log.warn({ shard: this.shard, operations }, 'stopped before everything in flight was done');
  }

  #setTimer(): void {
    const dueMs = this.#session === null || this.#halted ? null : this.#sequencer.nextDeadlineMs();
    if (dueMs !== null && this.#timer !== null && this.#timerAtMs <= dueMs) return;
    this.#timer?.cancel();
    this.#timer = null;
    if (dueMs === null) return;
    this.#timerAtMs = dueMs;
    const waitMs = Math.min(Math.max(0, Math.ceil(dueMs - this.#options.time.nowMs())), 2 ** 31 - 1);
    this.#timer = this.#options.time.after(waitMs, () => {
      this.#timer = null;
      this.#handle([{ kind: 'timePassed' }]);
      this.#setTimer();
    });
  }
}

/** The broker knows nothing of it: it came from a source of missing events. */
function isFetched(tag: number): boolean {
  return tag < 0;
}

function forget({ messages, results, intake }: Session, tag: number): void {
  messages.delete(tag);
  results.delete(tag);
  intake.settled(tag);
}
