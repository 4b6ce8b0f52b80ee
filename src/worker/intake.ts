/**
 * Lets deliveries in by their bytes: PREFETCH counts them, and a thousand may be a megabyte or a gigabyte. What finds no
 * room is not kept; it stays unacknowledged, and when room has come it goes back to the head of its queue, as much as
 * fits, in order, and is delivered again.
 *
 *   delivered ──fits──▶ in work or held ──settled──▶ room
 *       └──no room──▶ left outside ──room──▶ given back ──▶ delivered again, in the room kept for it
 *
 * A shard may take as much as is free in all, so that a few busy ones have most of the memory and none takes the last of
 * it. Where nothing is in it but what is held, or stuck (src/ordering/work.ts), one delivery is let in at a time, whatever
 * its size: it is settled, or held until that reaches its limit and the oldest gap ends (src/ordering/gap-clock.ts). So
 * neither a gap nor a stuck entity keeps the others of its shard outside for ever.
 */
import type { RawDelivery } from '../rabbitmq/shard-channel.ts';
import type { Time, Timer } from '../time.ts';

/** What the unsettled deliveries of a process may take, over all of its shards. */
export class DeliveryMemory {
  readonly maxBytes: number;
  usedBytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }
}

export interface IntakeOptions {
  readonly memory: DeliveryMemory;
  /** Deliveries of this shard that nobody waits for to be settled: held, or stuck in work. */
  readonly waiting: () => number;
  /** Gives a delivery back to the head of its queue. */
  readonly giveBack: (tag: number) => void;
  /** What was given back has not come again: its room is free, and `refill` may use it. */
  readonly onMissed: () => void;
  /** How long what was given back may take to come again before its room is used otherwise, in milliseconds. Default 10,000. */
  readonly patienceMs?: number;
  readonly time: Time;
}

interface Outside {
  readonly tag: number;
  readonly bytes: number;
  readonly messageId: string | undefined;
}

/** A delivery that is let in. */
export interface Admitted {
  readonly delivery: RawDelivery;
  /** What it takes in memory until it is settled. */
  readonly bytes: number;
}

/** A body, its text and what is parsed of it, about as large each, and what goes with any delivery. */
export function deliveryBytes({ body }: Pick<RawDelivery['message'], 'body'>): number {
  return 1_024 + 3 * body.byteLength;
}

export class Intake {
  readonly #options: IntakeOptions;
  /** What each delivery takes that is in, by tag. */
  readonly #inside = new Map<number, number>();
  #bytes = 0;
  /** In order of arrival. */
  #outside: Outside[] = [];
  /** Given back and not delivered again yet. Their room is kept. */
  #expected: Outside[] = [];
  #timer: Timer | null = null;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Deliveries that the broker counts as ours and that are not here. */
  get outside(): number {
    return this.#outside.length + this.#expected.length;
  }

  /** Returns what is let in now, in order. */
  admit(deliveries: readonly RawDelivery[]): readonly Admitted[] {
    const admitted: Admitted[] = [];
    for (const delivery of deliveries) {
      const bytes = deliveryBytes(delivery.message);
      if (this.#admits(delivery, bytes)) admitted.push({ delivery, bytes });
    }
    return admitted;
  }

  settled(tag: number): void {
    const bytes = this.#inside.get(tag);
    if (bytes === undefined) return;
    this.#inside.delete(tag);
    this.#use(-bytes);
  }

  /** Calls back as much as there is room for; call it when something has been settled. Returns how many were given back. */
  refill(): number {
    let count = 0;
    for (let next = this.#outside[count]; next !== undefined && this.#fits(next.bytes); next = this.#outside[count]) {
      count++;
      this.#expected.push(next);
      this.#use(next.bytes);
      this.#options.giveBack(next.tag);
    }
    if (count === 0) return 0;
    this.#outside = this.#outside.slice(count);
    this.#wait();
    return count;
  }

  /** The channel is gone, and all of it belongs to the broker again. */
  end(): void {
    this.#use(-this.#bytes);
    this.#inside.clear();
    this.#outside = [];
    this.#expected = [];
    this.#wait();
  }

  #admits({ tag, redelivered, message }: RawDelivery, bytes: number): boolean {
    if (redelivered && this.#expected.length > 0) {
      const at = this.#expected.findIndex((expected) => expected.bytes === bytes && expected.messageId === message.messageId);
      if (at >= 0) {
        // They come in order: what was before it comes no more.
        for (const missed of this.#expected.splice(0, at + 1)) this.#use(-missed.bytes);
        this.#wait();
        this.#letIn(tag, bytes);
        return true;
      }
    }
    if (this.outside === 0 && this.#fits(bytes)) {
      this.#letIn(tag, bytes);
      return true;
    }
    this.#outside.push({ tag, bytes, messageId: message.messageId });
    return false;
  }

  #fits(bytes: number): boolean {
    const { memory, waiting } = this.#options;
    if (this.#bytes + bytes <= memory.maxBytes - memory.usedBytes) return true;
    return this.#inside.size + this.#expected.length <= waiting();
  }

  #letIn(tag: number, bytes: number): void {
    this.#inside.set(tag, bytes);
    this.#use(bytes);
  }

  #use(bytes: number): void {
    this.#bytes += bytes;
    this.#options.memory.usedBytes += bytes;
  }

  /** What does not come again was dropped by somebody else, as by a purge of the queue: the others must not wait for it. */
  #wait(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#expected.length === 0) return;
    const missed = () => {
      for (const { bytes } of this.#expected.splice(0)) this.#use(-bytes);
      this.#options.onMissed();
    };
    this.#timer = this.#options.time.after(this.#options.patienceMs ?? 10_000, missed, { unref: true });
  }
}
