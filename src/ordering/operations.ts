/**
 * Operations under way, and what becomes of them while the store is unavailable.
 *
 * An operation is in flight until a fact answers it. When the store cannot say what became of one, it waits
 * and is asked again as it was: every operation is safe to repeat. While the shard is paused new operations
 * wait too; after the back-off a few of them go out as a probe, and only when all of these are answered
 * do the others follow.
 */
import type { Effect, OperationEffect } from './facts.ts';
import type { Lane, Operation } from './lane.ts';

/** Leaves out the number, also from each member of a union. */
type Numberless<T> = T extends unknown ? Omit<T, 'op'> : never;
export type NewOperation = Numberless<OperationEffect>;

export class Operations {
  readonly #underWay = new Map<number, Operation>();
  readonly #maxProbe: number;
  readonly #probe = new Set<number>();
  #lastId = 0;
  #pausedUntilMs: number | null = null;

  constructor(maxProbe: number) {
    this.#maxProbe = maxProbe;
  }

  get size(): number {
    return this.#underWay.size;
  }

  get paused(): boolean {
    return this.#pausedUntilMs !== null;
  }

  /** When the next probe is due, or null. */
  get nextProbeMs(): number | null {
    return this.#probe.size > 0 ? null : this.#pausedUntilMs;
  }

  all(): Iterable<Operation> {
    return this.#underWay.values();
  }

  begin(lane: Lane | null, what: NewOperation, effects: Effect[]): void {
    const id = ++this.#lastId;
    const effect = { ...what, op: id } as OperationEffect;
    const operation: Operation = {
      id,
      effect,
      lane,
      slots: effect.kind === 'commit' ? effect.slots : [],
      deliveries: effect.kind === 'lookUp' ? effect.deliveries : [],
      isSuspended: this.paused,
    };
    this.#underWay.set(id, operation);
    if (lane !== null) lane.op = operation;
    if (!operation.isSuspended) effects.push(effect);
  }

  /** Takes an answered operation out; null when it is from before the channel was lost. */
  finish(id: number, effects: Effect[]): Operation | null {
    const operation = this.#underWay.get(id);
    if (operation === undefined) return null;
    this.#underWay.delete(id);
    if (operation.lane !== null) operation.lane.op = null;
    if (this.#probe.delete(id) && this.#probe.size === 0) this.#resume(effects);
    return operation;
  }

  get(id: number): Operation | undefined {
    return this.#underWay.get(id);
  }

  /** Only this operation's entity is unusable: it waits for `repeat`, the others go on. */
  setAside(operation: Operation, effects: Effect[]): void {
    operation.isSuspended = true;
    if (this.#probe.delete(operation.id) && this.#probe.size === 0) this.#resume(effects, operation);
  }

  repeat(operation: Operation, effects: Effect[]): void {
    operation.isSuspended = false;
    effects.push(operation.effect);
  }

  /** The outcome of these is unknown: they wait, and so does everything new. */
  suspend(ids: readonly number[], untilMs: number, effects: Effect[]): void {
    let known = false;
    for (const id of ids) {
      const operation = this.#underWay.get(id);
      if (operation === undefined) continue;
      operation.isSuspended = true;
      known = true;
      this.#probe.delete(id);
    }
    if (!known) return;
    if (!this.paused) effects.push({ kind: 'pause' });
    // A probe that failed in part is over: what is left of it goes on as operations in flight.
    this.#probe.clear();
    this.#pausedUntilMs = untilMs;
  }

  /** Sends a probe when it is due. */
  probe(nowMs: number, effects: Effect[]): void {
    const dueMs = this.nextProbeMs;
    if (dueMs === null || nowMs < dueMs) return;
    for (const operation of this.#underWay.values()) {
      if (!operation.isSuspended) continue;
      operation.isSuspended = false;
      this.#probe.add(operation.id);
      effects.push(operation.effect);
      if (this.#probe.size === this.#maxProbe) break;
    }
    if (this.#probe.size === 0) this.#resume(effects);
  }

  /** Its handlers are running, so it does not show whether the store answers: the probe goes on without it. */
  leaveProbe(id: number, nowMs: number, effects: Effect[]): void {
    if (this.#probe.delete(id) && this.#probe.size === 0) this.probe(nowMs, effects);
  }

  clear(): void {
    this.#underWay.clear();
    this.#probe.clear();
    this.#pausedUntilMs = null;
  }

  #resume(effects: Effect[], except: Operation | null = null): void {
    this.#pausedUntilMs = null;
    effects.push({ kind: 'resume' });
    for (const operation of this.#underWay.values()) {
      if (!operation.isSuspended || operation === except) continue;
      operation.isSuspended = false;
      effects.push(operation.effect);
    }
  }
}
