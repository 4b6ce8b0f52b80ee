/**
 * The traffic of a soak, endless until it is told to end, and who publishes it at a given rate.
 *
 * Lives of entities, twenty events each, as `history` tells them; of them everything that a bad network and a bad producer do: shuffled,
 * some repeated, one a second of almost a megabyte, and always so many entities that lack their first event, which comes a minute later.
 */
import amqp from 'amqplib';
import { setTimeout as sleep } from 'node:timers/promises';
import { perturb } from '../../src/publishing/perturb.ts';
import { bodyOf, interleaved, type TraceEvent } from '../support/trace.ts';

export interface TrafficOptions {
  /** The first part of the names of entities: one of its own for each traffic of a stream. */
  readonly prefix: string;
  readonly seed: number;
  /** Entities that lack their first event at any time. */
  readonly openGaps: number;
  /** One event each second is of almost a megabyte. */
  readonly hasBig: boolean;
}

const entities = 500;
const eventsEach = 20;
const window = 100;
const duplicate = 0.01;
const bigEveryMs = 1_000;
/** Below the limit of a body, which is 1 MiB. */
const bigBytes = 900_000;
const gapMs = 60_000;
const eventsPerGap = 3;
/** So that a thousand gaps do not open at once. */
const ordinaryPerGap = 10;

interface Sent extends TraceEvent {
  readonly isBig: boolean;
}

export class Traffic {
  readonly #options: TrafficOptions;
  readonly #open: { readonly entityId: string; readonly openedMs: number }[] = [];
  readonly #lengths = new Map<string, number>();
  #gaps = 0;
  #isEnding = false;

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  /** How many events each entity has once all of them came. */
  get lengths(): ReadonlyMap<string, number> {
    return this.#lengths;
  }

  /** What is begun is completed, and nothing more begun. */
  end(): void {
    this.#isEnding = true;
  }

  events(): AsyncGenerator<Sent, void> {
    return perturb(this.#inOrder(), { window, duplicate, drop: 0, seed: this.#options.seed });
  }

  async *#inOrder(): AsyncGenerator<Sent, void> {
    const { prefix } = this.#options;
    let [ordinary, lastBigMs] = [0, performance.now()];
    for (let wave = 1; !this.#isEnding; wave++) {
      for (const event of interleaved(entities, eventsEach, `${prefix}-${wave}`)) {
        if (event.sequence === 1) this.#lengths.set(event.entityId, eventsEach);
        if (++ordinary % ordinaryPerGap === 0) yield* this.#gapEvents(performance.now());
        const isBig = this.#options.hasBig && performance.now() - lastBigMs >= bigEveryMs;
        if (isBig) lastBigMs = performance.now();
        yield { ...event, isBig };
      }
    }
    while (this.#open.length > 0) yield this.#close();
  }

  *#gapEvents(nowMs: number): Generator<Sent, void> {
    if (this.#open.length > 0 && nowMs - this.#open[0]!.openedMs >= gapMs) yield this.#close();
    if (this.#open.length >= this.#options.openGaps || this.#isEnding) return;
    const entityId = `${this.#options.prefix}-gap-${++this.#gaps}`;
    this.#lengths.set(entityId, eventsPerGap);
    this.#open.push({ entityId, openedMs: nowMs });
    for (let sequence = 2; sequence <= eventsPerGap; sequence++) yield { entityId, sequence, isBig: false };
  }

  #close(): Sent {
    return { entityId: this.#open.shift()!.entityId, sequence: 1, isBig: false };
  }
}

/** What was published so far. */
export interface Published {
  messages: number;
  big: number;
}

/** Of messages without an answer. */
const maxUnconfirmed = 10_000;
const turnMs = 10;

export interface Pace {
  readonly eventsPerSecond: number;
  /** While it says no, nothing is published, and what was not published then is not made up for. */
  readonly mayGo: () => boolean;
}

/** Counts in `published` as it goes; resolves when the traffic has ended and all of it is confirmed. */
export async function publish(
  target: { readonly amqpUrl: string; readonly stream: string },
  traffic: Traffic,
  { eventsPerSecond, mayGo }: Pace,
  published: Published,
): Promise<void> {
  const connection = await amqp.connect(target.amqpUrl);
  try {
    const channel = await connection.createConfirmChannel();
    const big = 'x'.repeat(bigBytes);
    let [unconfirmed, refused, allowance, lastMs] = [0, 0, 0, performance.now()];
    for await (const event of traffic.events()) {
      while (allowance < 1) {
        await sleep(turnMs);
        if (refused > 0) throw new Error(`the broker refused ${refused} messages`);
        const elapsedMs = Math.min(performance.now() - lastMs, 1_000);
        lastMs += performance.now() - lastMs;
        if (mayGo() && unconfirmed < maxUnconfirmed) allowance += (elapsedMs * eventsPerSecond) / 1_000;
      }
      allowance--;
      unconfirmed++;
      published.messages++;
      if (event.isBig) published.big++;
      // RabbitMQ leaves the unit to its users, and seconds are too coarse here.
      const properties = { persistent: true, contentType: 'application/json', timestamp: Date.now() };
      channel.publish(target.stream, event.entityId, bodyOf(event, event.isBig ? big : undefined), properties, (error) => {
        unconfirmed--;
        if (error !== null) refused++;
      });
    }
    await channel.waitForConfirms();
  } finally {
    await connection.close();
  }
}
