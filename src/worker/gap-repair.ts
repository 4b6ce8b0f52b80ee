/**
 * Fetches missing events instead of waiting for them (GAP_REPAIR): the events of a gap that has been open for a while are
 * looked up in a source, and those found go to the shard as if the broker had delivered them.
 *
 *   gap older than GAP_REPAIR_AFTER_MS ──▶ ask the source ──┬─ found ─────▶ delivered; a late delivery is a duplicate
 *                                               ▲           ├─ not found ─▶ back off ─┐
 *                                               └───────────┴─ fails ─────▶ back off ─┘   until the gap's own deadline
 *
 * Guarantees that only the owner of a shard repairs its gaps, and only while they are open; that the number of events per
 * request, of concurrent requests, and of requests per second is bounded. The sequencer decides what becomes of a fetched event.
 * The gap's own deadline ends the attempts: an unavailable source changes nothing.
 */
import { entityKey } from '../events/identity.ts';
import { messageOf, UnavailableError } from '../errors.ts';
import type { EncodedEvent } from '../events/encode.ts';
import { entityFields, type EntityRef, type EventLimits } from '../events/event.ts';
import type { Log } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import type { OpenShardChannel } from '../rabbitmq/shard-channel.ts';
import { type GapSource, readMissing } from '../stores/event-store.ts';
import { backOffMs, every, type Time, timeLimit, type Timer, within } from '../time.ts';

/** A gap that is open now. */
export interface RepairableGap {
  readonly entity: EntityRef;
  /** First missing sequence. */
  readonly from: number;
  /** Last one before the lowest held. */
  readonly to: number;
  /** The channel that delivered what is held: its deliveries end with it, and so does the gap. */
  readonly channel: OpenShardChannel;
}

export interface RepairableShard {
  readonly shard: number;
  /** Gaps for which an event has waited at least `ms`, the longest wait first. */
  gapsOlderThan(ms: number): readonly RepairableGap[];
  /** Handles the events as if `channel` had delivered them. Returns false, and does nothing, when the shard has another one by now. */
  deliverMissing(channel: OpenShardChannel, events: readonly EncodedEvent[]): boolean;
}

export interface GapRepairOptions {
  readonly source: GapSource;
  readonly shards: readonly RepairableShard[];
  /** How long a gap stays open before the source is asked, in milliseconds. */
  readonly afterMs: number;
  readonly limits: EventLimits;
  readonly metrics: Pick<Metrics, 'gapRepairEnded'>;
  readonly log: Log;
  readonly time: Time;
}

/** Sequences per request; the rest of a longer gap is requested afterwards. */
const maxEventsPerRead = 500;
const maxReadsAtATime = 8;
const maxReadsPerSecond = 50;
const readTimeoutMs = 10_000;
const shortestLookMs = 50;
const longestLookMs = 1_000;
/** Between two tries at an entity. */
const backOff = { initialMs: 500, maxMs: 30_000 };
/** Beyond this number of entities the record of earlier tries is cleared. */
const maxRemembered = 10_000;

interface Tries {
  readonly failures: number;
  readonly notBeforeMs: number;
}

export class GapRepair {
  readonly #options: GapRepairOptions;
  readonly #lookMs: number;
  readonly #stopping = new AbortController();
  readonly #reading = new Map<string, Promise<void>>();
  readonly #tries = new Map<string, Tries>();
  #timer: Timer | null = null;
  /** Logged once, until the source answers again. */
  #sourceUnavailable = false;

  constructor(options: GapRepairOptions) {
    this.#options = options;
    this.#lookMs = Math.min(longestLookMs, Math.max(shortestLookMs, options.afterMs / 4));
  }

  start(): void {
    this.#timer = every(this.#options.time, this.#lookMs, () => this.look());
  }

  /** Starts nothing more. Resolves when running requests have ended, or after `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping.abort();
    this.#timer?.cancel();
    await within(this.#options.time, Promise.all(this.#reading.values()), timeoutMs);
  }

  /** Starts to repair the gaps that have been open long enough. */
  look(): void {
    const nowMs = this.#options.time.nowMs();
    let begun = 0;
    const mostBegun = Math.ceil((maxReadsPerSecond * this.#lookMs) / 1_000);
    for (const shard of this.#options.shards) {
      for (const gap of shard.gapsOlderThan(this.#options.afterMs)) {
        if (this.#stopping.signal.aborted || begun >= mostBegun || this.#reading.size >= maxReadsAtATime) return;
        const name = entityKey(gap.entity);
        if (this.#reading.has(name) || nowMs < (this.#tries.get(name)?.notBeforeMs ?? nowMs)) continue;
        begun++;
        this.#reading.set(
          name,
          this.#repair(name, shard, gap).finally(() => this.#reading.delete(name)),
        );
      }
    }
  }

  async #repair(name: string, shard: RepairableShard, gap: RepairableGap): Promise<void> {
    const { metrics, log } = this.#options;
    const of = { shard: shard.shard, ...entityFields(gap.entity), from: gap.from };
    try {
      const events = await this.#read(gap);
      this.#sourceUnavailable = false;
      if (events.length === 0) {
        metrics.gapRepairEnded('missing');
        if (this.#putOff(name) === 1) log.info({ ...of, to: gap.to }, 'the source does not have the missing events either');
        return;
      }
      if (this.#stopping.signal.aborted || !shard.deliverMissing(gap.channel, events)) return;
      // The gap stays open until the events are committed.
      this.#tries.set(name, { failures: 0, notBeforeMs: this.#options.time.nowMs() + backOff.initialMs });
      metrics.gapRepairEnded('repaired');
      log.info({ ...of, to: gap.to, count: events.length }, 'missing events were fetched from the source');
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      metrics.gapRepairEnded('failed');
      this.#putOff(name);
      if (!this.#sourceUnavailable)
        log.warn({ ...of, to: gap.to, cause: messageOf(error) }, 'fetching missing events from the source failed; trying again');
      this.#sourceUnavailable = true;
    }
  }

  /** Ends at the time limit even if the source ignores its signal. */
  async #read({ entity, from, to }: RepairableGap): Promise<readonly EncodedEvent[]> {
    const { source, limits, time } = this.#options;
    const signal = AbortSignal.any([timeLimit(time, readTimeoutMs), this.#stopping.signal]);
    const ended = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new UnavailableError(`no answer within ${readTimeoutMs / 1_000} s`)), { once: true });
    });
    const missing = { entity, from, to: Math.min(to, from + maxEventsPerRead - 1), signal };
    return Promise.race([readMissing(source, missing, limits), ended]);
  }

  /** Returns how many tries have failed so far. */
  #putOff(name: string): number {
    if (this.#tries.size >= maxRemembered) this.#tries.clear();
    const failures = (this.#tries.get(name)?.failures ?? 0) + 1;
    const { time } = this.#options;
    this.#tries.set(name, { failures, notBeforeMs: time.nowMs() + backOffMs(backOff, failures, time) });
    return failures;
  }
}
