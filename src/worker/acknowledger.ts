/**
 * Settles deliveries of one channel with as few frames as the protocol allows: `multiple` covers every lower
 * tag of the channel, so it is used only up to the highest tag below which everything is settled; what lies
 * above an unsettled tag is acknowledged by itself.
 *
 *   tags      1 2 3 4 5 6      2 is held
 *   settled   x . x x . x  →   ack(1) ack(3) ack(4) ack(6)
 *   then 2 is settled      →   ack(4, multiple)
 */

export interface SettlingChannel {
  ack(tag: number, multiple: boolean): void;
  reject(tag: number): void;
}

export class Acknowledger {
  readonly #channel: SettlingChannel;
  /** Every tag up to here is settled. */
  #low = 0;
  /** Settled tags above `#low`. */
  readonly #settled = new Set<number>();
  #toAck: number[] = [];

  constructor(channel: SettlingChannel) {
    this.#channel = channel;
  }

  /** Acknowledged with the next `flush`. */
  ack(tag: number): void {
    this.#settled.add(tag);
    this.#toAck.push(tag);
  }

  /** Rejected at once: rejects of one entity must leave in the order in which they are decided. */
  reject(tag: number): void {
    this.#settled.add(tag);
    this.#channel.reject(tag);
  }

  flush(): void {
    while (this.#settled.delete(this.#low + 1)) this.#low++;
    if (this.#toAck.length === 0) return;
    let covered = 0;
    let count = 0;
    for (const tag of this.#toAck) {
      if (tag > this.#low) continue;
      count++;
      if (tag > covered) covered = tag;
    }
    if (count > 0) this.#channel.ack(covered, count > 1);
    if (count < this.#toAck.length) {
      for (const tag of this.#toAck) if (tag > this.#low) this.#channel.ack(tag, false);
    }
    this.#toAck = [];
  }
}
