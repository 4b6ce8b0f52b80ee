/**
 * The dead-letter queue: any number of consumers, of which each that has room is given the next message in turn. One that is cancelled
 * keeps what it has; what the consumers of a channel that ends still have comes back a moment after the broker has answered, in the order
 * in which they had it, behind what came back before and ahead of all others.
 */
import type { RawMessage } from '../../src/events/event.ts';
import { shardQueueName } from '../../src/rabbitmq/topology-plan.ts';
import type { Copy } from './model-broker.ts';
import { startOfTimeMs } from './virtual-time.ts';
import type { World } from './world.ts';

export interface DeadLetter extends Copy {
  /** In the order of rejection, from 1. */
  readonly number: number;
  /** How often the broker had been given the message by then. */
  readonly arrivals: number;
  /** When it was delivered last. */
  deliveredAtMs: number;
  /** Whether it was delivered before: from RabbitMQ 4 on that counts from its shard queue. */
  isReturned: boolean;
}

/** The broker's side of a consumer. */
export interface Reader {
  readonly prefetch: number;
  readonly unsettled: Map<number, DeadLetter>;
  isCancelled: boolean;
  readonly deliver: (letter: DeadLetter) => void;
  /** By the broker, for it has had something for longer than this. */
  readonly timeOut: (timeoutMs: number) => void;
}

export class DeadLetterQueue {
  /** Somebody was lost who had some of it: it need not be in the order of rejection any more. */
  isDisturbed = false;
  readonly #world: World;
  readonly #ready: DeadLetter[] = [];
  readonly #returned: DeadLetter[] = [];
  readonly #readers: Reader[] = [];
  readonly #marksAll: boolean;
  #number = 0;

  constructor(world: World) {
    this.#world = world;
    this.#marksAll = world.scenario.seed % 2 === 0;
  }

  /** Letters that nobody has. */
  get ready(): number {
    return this.#returned.length + this.#ready.length;
  }

  /** Those that somebody has come last. */
  get all(): readonly DeadLetter[] {
    return [...this.#returned, ...this.#ready, ...this.#readers.flatMap(({ unsettled }) => [...unsettled.values()])];
  }

  /** What nobody has is in the order of rejection. */
  get isInOrder(): boolean {
    return [...this.#returned, ...this.#ready].every(({ number }, index, all) => index === 0 || number > all[index - 1]!.number);
  }

  push({ letter, message }: Copy, why: 'rejected' | 'delivery_limit' = 'rejected'): void {
    const number = ++this.#number;
    const arrivals = this.#world.ledger.arrivalsOf(letter);
    this.#ready.push({
      letter,
      message: withDeath(message, why, letter.shard, this.#world),
      number,
      arrivals,
      deliveredAtMs: 0,
      isReturned: this.#marksAll,
    });
    this.#deliver();
  }

  subscribe(reader: Reader): void {
    this.#readers.push(reader);
    this.#deliver();
  }

  /** `isLost`: with its connection. */
  leave(reader: Reader, isLost: boolean): void {
    const at = this.#readers.indexOf(reader);
    if (at < 0) return;
    this.#readers.splice(at, 1);
    const back = [...reader.unsettled.values()];
    reader.unsettled.clear();
    if (isLost && back.length > 0) this.isDisturbed = true;
    for (const letter of back) letter.isReturned = true;
    this.#returned.push(...back);
    this.#deliver();
  }

  /** Closes the channels that have had a letter for longer. */
  timeOut(timeoutMs: number): void {
    const { nowMs } = this.#world.schedule;
    const late = this.#readers.filter(({ unsettled }) => [...unsettled.values()].some((one) => nowMs - one.deliveredAtMs > timeoutMs));
    for (const reader of late) {
      this.#world.sometimes('the broker timed a reader of the dead letters out');
      this.isDisturbed = true;
      reader.timeOut(timeoutMs);
    }
  }

  /** Removes one, or with `multiple` all that the reader was given up to it. */
  settle(reader: Reader, tag: number, multiple: boolean): void {
    if (!this.#readers.includes(reader)) return;
    const { ledger } = this.#world;
    if (!reader.unsettled.has(tag)) return ledger.settledTwice(`a dead letter, ${tag}`);
    for (const [one, { letter, arrivals }] of [...reader.unsettled]) {
      if (multiple ? one > tag : one !== tag) continue;
      reader.unsettled.delete(one);
      this.#world.note('broker', 'removed', letter.id);
      if (ledger.arrivalsOf(letter) === arrivals) ledger.fail('a dead letter was removed that the broker was not given again', letter.id);
    }
    this.#deliver();
  }

  #deliver(): void {
    for (;;) {
      const at = this.#readers.findIndex(({ isCancelled, unsettled, prefetch }) => !isCancelled && unsettled.size < prefetch);
      const letter = at < 0 ? undefined : (this.#returned.shift() ?? this.#ready.shift());
      if (letter === undefined) return;
      const [reader] = this.#readers.splice(at, 1);
      this.#readers.push(reader!);
      letter.deliveredAtMs = this.#world.schedule.nowMs;
      reader!.deliver(letter);
    }
  }
}

/** As the broker marks it: the latest death first. */
function withDeath(message: RawMessage, reason: string, shard: number, { schedule }: World): RawMessage {
  const time = { '!': 'timestamp', value: Math.floor((startOfTimeMs + schedule.nowMs) / 1_000) };
  const death = {
    reason,
    queue: shardQueueName('s', shard),
    exchange: 's',
    time,
    count: 1,
    'routing-keys': [message.routingKey],
  };
  const before = message.headers['x-death'];
  return { ...message, headers: { ...message.headers, 'x-death': [death, ...(Array.isArray(before) ? before : [])] } };
}
