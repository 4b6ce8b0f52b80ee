/**
 * A run: the slots of one commit of one entity, in order, with the version and the holes after each of them.
 */
import type { Delivery, Slot, SlotAction } from './facts.ts';
import type { Holes } from './holes.ts';
import type { Lane } from './lane.ts';

export class Run {
  readonly slots: Slot[] = [];
  version: number;
  holes: Holes;
  /** The entity was unknown and the run's first event is its base line. */
  adopts = false;
  #unsequenced = false;
  #ids: Set<string> | null = null;

  constructor(lane: Lane) {
    this.version = lane.version;
    this.holes = lane.holes;
  }

  get isEmpty(): boolean {
    return this.slots.length === 0;
  }

  /** Sequenced and unsequenced events do not share a commit: a conflict of ids means different things for them. */
  takes(unsequenced: boolean): boolean {
    return this.isEmpty || this.#unsequenced === unsequenced;
  }

  /** False when the run already carries this id: the store can only tell after the first is committed. */
  admits(delivery: Delivery): boolean {
    return this.#ids === null ? this.slots[0]?.delivery.event.id !== delivery.event.id : !this.#ids.has(delivery.event.id);
  }

  /** The next sequence in line. */
  follow(delivery: Delivery, action: SlotAction): void {
    this.version += 1;
    this.#push(delivery, this.version, action);
  }

  /** An event beyond the next in line: the sequences passed over become holes, and itself when it is skipped. */
  leap(delivery: Delivery, sequence: number, action: SlotAction): void {
    this.holes = this.holes.add(this.version + 1, action === 'skip' ? sequence : sequence - 1);
    this.version = sequence;
    this.#push(delivery, sequence, action);
  }

  /** The first event of a running stream: what came before it was never ours. */
  adopt(delivery: Delivery, sequence: number, action: SlotAction): void {
    this.adopts = true;
    this.holes = this.holes.below(sequence - 1);
    this.version = sequence;
    this.#push(delivery, sequence, action);
  }

  /** A late event fills its hole; the version stays. */
  close(delivery: Delivery, sequence: number, action: SlotAction): void {
    this.holes = this.holes.close(sequence);
    this.#push(delivery, sequence, action);
  }

  /** What was placed last has an id that was applied under another sequence. */
  repeats(appliedAs: number): void {
    const last = this.slots.pop();
    if (last !== undefined) this.slots.push({ ...last, appliedAs });
  }

  unsequenced(delivery: Delivery): void {
    this.#unsequenced = true;
    this.follow(delivery, 'apply');
  }

  #push(delivery: Delivery, sequence: number, action: SlotAction): void {
    if (this.slots.length > 0) {
      this.#ids ??= new Set(this.slots.map((slot) => slot.delivery.event.id));
      this.#ids.add(delivery.event.id);
    }
    this.slots.push({ delivery, sequence, action, versionAfter: this.version, holesAfter: this.holes.toString() });
  }
}
