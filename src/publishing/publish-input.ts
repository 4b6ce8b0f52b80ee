/**
 * Publishes a stream of events, or those of an input (perturbed and paced if asked for), and counts their outcomes. Guarantees that
 * they are published in the order of the stream; that it is read only while the outbox has room, so that memory is bounded; and
 * that the call returns only when every event has its outcome, also when `stop` aborts the reading of an input.
 */
import type { EncodedEvent } from '../events/encode.ts';
import type { AmqpPublisher, PublishOutcome } from '../rabbitmq/publisher.ts';
import { type Time, sleep } from '../time.ts';
import { lineEvents, type LineEventOptions } from './line-events.ts';
import { perturb, type PerturbOptions } from './perturb.ts';
import type { TextLine } from './text-lines.ts';

export interface PublishInputOptions {
  readonly reading: LineEventOptions;
  readonly reordering: PerturbOptions;
  /** Messages per second; null: as fast as the broker accepts them. */
  readonly ratePerSecond: number | null;
  readonly stop: AbortSignal;
  readonly publisher: Pick<AmqpPublisher, 'publish' | 'room'>;
  readonly onOutcome: OutcomeListener;
  readonly time: Time;
}

export interface PublishReport extends PublishCounts {
  /** The number of events read. */
  readonly events: number;
  /** The number of invalid lines; included in `failed`. */
  readonly badLines: number;
  /** The last line read before `stop` aborted; null if all were read. */
  readonly interruptedAtLine: number | null;
}

export async function publishInput(lines: AsyncIterable<TextLine>, options: PublishInputOptions): Promise<PublishReport> {
  const { reading, reordering, ratePerSecond, stop, time } = options;
  const progress = { events: 0, badLines: 0, line: 0, ended: false };
  async function* noticed(): AsyncGenerator<TextLine> {
    for await (const textLine of lines) {
      // Checked before use: the last line of an aborted input may be half a line.
      if (stop.aborted) return;
      progress.line = textLine.line;
      yield textLine;
    }
    progress.ended = !stop.aborted;
  }
  async function* counted(): AsyncGenerator<EncodedEvent> {
    const onProblem = (line: number, problem: string) => {
      progress.badLines++;
      reading.onProblem(line, problem);
    };
    for await (const event of lineEvents(noticed(), { ...reading, onProblem })) {
      progress.events++;
      yield event;
    }
  }
  const arriving = perturb(counted(), reordering);
  const departing = ratePerSecond === null ? arriving : paced(arriving, ratePerSecond, stop, time);
  const counts = await publishStream(departing, options.publisher, options.onOutcome);
  return {
    ...counts,
    failed: counts.failed + progress.badLines,
    events: progress.events,
    badLines: progress.badLines,
    interruptedAtLine: progress.ended ? null : progress.line,
  };
}

/** Whether every event was published and confirmed. */
export function isComplete({ returned, failed, interruptedAtLine }: PublishReport): boolean {
  return returned === 0 && failed === 0 && interruptedAtLine === null;
}

/** The outcomes so far. `published` counts all events; in the end it is the sum of the others. */
export interface PublishCounts {
  readonly published: number;
  readonly confirmed: number;
  readonly returned: number;
  readonly failed: number;
}

/** Called after each outcome. An error that it throws ends the publishing. */
export type OutcomeListener = (counts: PublishCounts, outcome: PublishOutcome) => void;

/** Rejects only with an error of the stream or the listener, once the events published before have their outcomes. */
export async function publishStream(
  events: AsyncIterable<EncodedEvent>,
  publisher: Pick<AmqpPublisher, 'publish' | 'room'>,
  onOutcome?: OutcomeListener,
): Promise<PublishCounts> {
  const counts = { published: 0, confirmed: 0, returned: 0, failed: 0 };
  let outstanding = 0;
  let ended: (() => void) | null = null;
  let thrown: { readonly error: unknown } | null = null;
  const settle = (outcome: PublishOutcome) => {
    counts[outcome.status]++;
    outstanding--;
    try {
      onOutcome?.({ ...counts }, outcome);
    } catch (error) {
      thrown ??= { error };
    }
    if (outstanding === 0) ended?.();
  };
  try {
    for await (const event of events) {
      counts.published++;
      outstanding++;
      void publisher.publish(event).then(settle);
      await publisher.room();
      if (thrown !== null) break;
    }
  } finally {
    if (outstanding > 0) await new Promise<void>((resolve) => (ended = resolve));
  }
  const failure = thrown as { readonly error: unknown } | null;
  if (failure !== null) throw failure.error;
  return counts;
}

/** A delay up to this is made up for, in milliseconds. */
const catchUpMs = 20;

/**
 * Spreads events evenly over time: the n-th is due n / rate seconds after the first, to the millisecond. Time
 * lost while the broker blocked is not made up for in a burst.
 */
export class Pacer {
  readonly #intervalMs: number;
  #dueMs: number | null = null;

  constructor(ratePerSecond: number) {
    this.#intervalMs = 1_000 / ratePerSecond;
  }

  /** How long to wait before the next event, in whole milliseconds; call it once for each. `nowMs` is monotonic. */
  delayMs(nowMs: number): number {
    const dueMs = Math.max(this.#dueMs ?? nowMs, nowMs - catchUpMs);
    this.#dueMs = dueMs + this.#intervalMs;
    return Math.max(0, Math.floor(dueMs - nowMs));
  }
}

/** Yields the elements of a stream at a rate per second; once `stop` aborts, without pauses. */
export async function* paced<T>(source: AsyncIterable<T>, ratePerSecond: number, stop: AbortSignal, time: Time): AsyncGenerator<T> {
  const pacer = new Pacer(ratePerSecond);
  for await (const element of source) {
    const delayMs = pacer.delayMs(time.nowMs());
    if (delayMs > 0) await sleep(time, delayMs, stop);
    yield element;
  }
}
