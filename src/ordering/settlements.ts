/**
 * What is settled within one fact: acknowledgements go out as they are decided; rejections and questions
 * about duplicates are gathered over all entities and go out once, as one operation each.
 */
import type { RejectionReason } from '../events/reasons.ts';
import type { Delivery, Effect, Outcome, RefusedDelivery, Rejection } from './facts.ts';
import type { Operation } from './lane.ts';
import type { Operations } from './operations.ts';
import type { PlanSink } from './plan.ts';

export class Settlements implements PlanSink {
  /** Deliveries taken in and not decided. */
  undecided = 0;
  /** More deliveries wait outside until what is settled makes room in memory. */
  memoryIsFull = false;
  /** Decided, and being put on record before they are rejected: until then they take room in the window. */
  leaving = 0;
  effects: Effect[] = [];
  #rejections: Rejection[] = [];
  #lookups: Delivery[] = [];
  #skipped: Delivery[] = [];

  lookUp(delivery: Delivery): void {
    this.#lookups.push(delivery);
  }

  skipped(delivery: Delivery): void {
    this.#skipped.push(delivery);
  }

  violation(delivery: Delivery, received: number, expected: number): void {
    this.effects.push({ kind: 'violation', delivery, expected, received });
  }

  absorbed(delivery: Delivery, sequence: number, appliedAs: number): void {
    this.effects.push({ kind: 'absorbed', delivery, sequence, appliedAs });
  }

  remembered(delivery: Delivery, result: string): void {
    this.effects.push({ kind: 'remembered', delivery, result });
  }

  ack(outcome: Outcome, deliveries: readonly Delivery[]): void {
    if (deliveries.length === 0) return;
    this.undecided -= deliveries.length;
    this.effects.push({ kind: 'ack', outcome, deliveries });
  }

  reject(delivery: Delivery, reason: RejectionReason, detail: string, stack: string | null = null): void {
    this.undecided--;
    this.#rejections.push({ tag: delivery.tag, reason, detail, stack, event: delivery.event, refusal: null });
  }

  refuse(delivery: RefusedDelivery): void {
    const { reason, detail } = delivery.refusal;
    this.undecided--;
    this.#rejections.push({ tag: delivery.tag, reason, detail, event: null, refusal: delivery.refusal });
  }

  flush(operations: Operations): void {
    if (this.#skipped.length > 0) this.ack('skipped', this.#skipped);
    if (this.#lookups.length > 0) operations.begin(null, { kind: 'lookUp', deliveries: this.#lookups }, this.effects);
    if (this.#rejections.length > 0) operations.begin(null, { kind: 'reject', rejections: this.#rejections }, this.effects);
    this.leaving += this.#rejections.length;
    this.#empty();
  }

  /** What an operation has rejected is gone. */
  rejected({ effect }: Operation): void {
    if (effect.kind === 'reject') this.leaving -= effect.rejections.length;
  }

  clear(): void {
    this.undecided = 0;
    this.memoryIsFull = false;
    this.leaving = 0;
    this.#empty();
  }

  #empty(): void {
    if (this.#skipped.length > 0) this.#skipped = [];
    if (this.#lookups.length > 0) this.#lookups = [];
    if (this.#rejections.length > 0) this.#rejections = [];
  }
}
