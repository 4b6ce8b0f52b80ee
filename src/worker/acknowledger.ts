/**
 * Settles deliveries of one channel with as few frames as the protocol allows: `multiple` covers every lower
 * tag of the channel, so it is used only up to the highest tag below which everything is settled; what lies
 * above an unsettled tag is acknowledged by itself.
 *
 *   tags      1 2 3 4 5 6      3 is held
 *   settled   x x . x . x  →   ack(2, multiple) ack(4) ack(6)
 *   then 3 and 5           →   ack(5, multiple)
 */
import type { OpenShardChannel } from '../rabbitmq/shard-channel.ts';

export type SettlingChannel = Pick<OpenShardChannel, 'ack' | 'reject' | 'giveBack'>;

export class Acknowledger {
  readonly #channel: SettlingChannel;
  /** The last tag that has arrived. */
  #last = 0;
  /** In ascending order. The unsettled tags are kept because the number of settled tags above a held one has no bound. */
  readonly #unsettled = new Set<number>();
  #toAck: number[] = [];

  constructor(channel: SettlingChannel) {
    this.#channel = channel;
  }

  /** Call for each delivery as it comes, before it is settled. */
  arrived(tag: number): void {
    this.#last = tag;
    this.#unsettled.add(tag);
  }

  /** Takes effect with the next `flush`. */
  ack(tag: number): void {
    this.#unsettled.delete(tag);
    this.#toAck.push(tag);
  }

  /** Sent at once: the rejects of an entity must leave in the order in which they were decided. */
  reject(tag: number): void {
    this.#unsettled.delete(tag);
    this.#channel.reject(tag);
  }

  /** Back to the queue, at once. */
  giveBack(tag: number): void {
    this.#unsettled.delete(tag);
    this.#channel.giveBack(tag);
  }

  flush(): void {
    if (this.#toAck.length === 0) return;
    const low = this.#low();
    let covered = 0;
    let count = 0;
    for (const tag of this.#toAck) {
      if (tag > low) continue;
      count++;
      if (tag > covered) covered = tag;
    }
    if (count > 0) this.#channel.ack(covered, count > 1);
    if (count < this.#toAck.length) {
      for (const tag of this.#toAck) if (tag > low) this.#channel.ack(tag, false);
    }
    this.#toAck = [];
  }
  /** Every tag up to here is settled. */
  #low(): number {
    for (const tag of this.#unsettled) return tag - 1;
    return this.#last;
  }
}
