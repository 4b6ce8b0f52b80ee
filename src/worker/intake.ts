/**
 * Admits deliveries by their size: PREFETCH only counts them, and a thousand may be a megabyte or a gigabyte. A delivery that
 * does not fit is not kept. It stays unacknowledged; when memory is free, as many as fit are requeued at the head of their
 * queue, in order, and are delivered again.
 *
 *   delivered ──fits──▶ in work or held ──settled──▶ memory is free
 *       └──no room──▶ left outside ──memory is free──▶ given back ──▶ delivered again, into the memory reserved for it
 *
 * A shard may use at most as much memory as is still free, so that a few busy shards get most of it and none takes the last of
 * it. While all admitted deliveries of a shard are held or stuck (src/ordering/work.ts), one more is admitted at a time, whatever
 * its size: it is settled, or held until the limit on held events ends a gap (src/ordering/gap-clock.ts). So
 * neither a gap nor a stuck entity blocks the other entities of its shard for ever.
 */
import type { RawDelivery } from '../rabbitmq/shard-channel.ts';
import type { Time, Timer } from '../time.ts';

/** The memory for the unsettled deliveries of all shards of a process. */
export class DeliveryMemory {
  readonly maxBytes: number;
  usedBytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }
}

export interface IntakeOptions {
  readonly memory: DeliveryMemory;
  /** The number of this shard's deliveries that are not expected to be settled soon: held, or stuck in work. */
  readonly waiting: () => number;
  /** Gives a delivery back to the head of its queue. */
  readonly giveBack: (tag: number) => void;
  /** Deliveries that were given back did not come again: their memory is free, and `refill` may use it. */
  readonly onMissed: () => void;
  /** How long memory stays reserved for a delivery that was given back, in milliseconds. Default 10,000. */
  readonly patienceMs?: number;
  readonly time: Time;
}

interface Outside {
  readonly tag: number;
  readonly bytes: number;
  readonly messageId: string | undefined;
}

/** A delivery that was admitted. */
export interface Admitted {
  readonly delivery: RawDelivery;
  /** The memory it takes until it is settled. */
  readonly bytes: number;
}

/** The body, its text and the parsed event, each about as large, plus the overhead of a delivery. */
export function deliveryBytes({ body }: Pick<RawDelivery['message'], 'body'>): number {
  return 1_024 + 3 * body.byteLength;
}

export class Intake {
  readonly #options: IntakeOptions;
  /** The bytes of each admitted delivery, by tag. */
  readonly #inside = new Map<number, number>();
  #bytes = 0;
  /** In order of arrival. */
  #outside: Outside[] = [];
  /** Given back and not delivered again yet. Their memory is reserved. */
  #expected: Outside[] = [];
  #timer: Timer | null = null;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Deliveries that the broker counts as unacknowledged and that were not admitted. */
  get outside(): number {
    return this.#outside.length + this.#expected.length;
  }

  /** Returns the admitted deliveries, in order. */
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

  /** Gives back as many deliveries as now fit; call it after deliveries were settled. Returns how many were given back. */
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

  /** The channel is gone: all its deliveries belong to the broker again. */
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
        // They come in order: the ones before it do not come any more.
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

  /** A delivery that does not come again was removed by somebody else, for instance by a purge: the others must not wait for it. */
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
