/**
 * Detects and counts events of an entity that come in another order than that of their sequences. The detector only observes and
 * never holds or drops an event. After a violation it expects the successor of the early event: otherwise every event after a lost
 * one would be a violation.
 *
 * `withOrdering` puts one around any handler, for consumers other than Inorder's worker: it checks each event before the handler
 * runs, and treats a violation by a strategy. It guarantees only the strategy; it holds no events, so it cannot restore an order.
 * Buffering, the fourth strategy, needs acknowledgements and a store, that is, a worker.
 */
import { ConfigError, EventError } from '../errors.ts';

/** One arrival of an event. */
export interface ObservedEvent {
  readonly messageId: string;
  readonly entityType: string;
  readonly entityId: string;
  /** 1, 2, 3… within its entity, or from `firstSequence`. */
  readonly sequence: number;
  readonly type: string;
  /** When it happened, in milliseconds since 1970. */
  readonly occurredAtMs?: number;
  /** When it arrived here, in milliseconds since 1970. */
  readonly receivedAtMs: number;
}

/** An event came before one or more of its predecessors. */
export interface Violation {
  readonly entityType: string;
  readonly entityId: string;
  readonly expected: number;
  readonly received: number;
  readonly messageId: string;
  /** The type of the event. */
  readonly type: string;
  /** The number of skipped sequences: `received - expected`. */
  readonly gap: number;
  /** When it was noticed, in milliseconds since 1970. */
  readonly atMs: number;
}

export type Observation =
  | { readonly kind: 'in-order' }
  /** A sequence that came before, or that was skipped and comes late. */
  | { readonly kind: 'old' }
  | { readonly kind: 'violation'; readonly violation: Violation };

export interface OrderingStatistics {
  /** Violations since the start. */
  readonly total: number;
  /** Entities with violations; exact up to `maxEntities`, then a lower bound. */
  readonly affectedEntities: number;
  /** Mean gap of all violations; 0 if there was none. */
  readonly averageGap: number;
  readonly maxGap: number;
  /** The last violations, the latest last. */
  readonly recent: readonly Violation[];
}

export interface OrderingDetectorOptions {
  /** Violations kept for `statistics().recent`. Default 10. */
  readonly recent?: number;
  /** The most entities to remember; the least recently seen is forgotten first. Default 100,000. */
  readonly maxEntities?: number;
  /** The first sequence of an entity. Default 1. */
  readonly firstSequence?: 0 | 1;
}

const inOrder: Observation = { kind: 'in-order' };
const old: Observation = { kind: 'old' };

export class OrderingDetector {
  readonly #keepRecent: number;
  readonly #maxEntities: number;
  readonly #firstSequence: 0 | 1;
  /** The highest sequence seen, by entity; least recently seen first. */
  readonly #lastSequences = new Map<string, number>();
  readonly #affected = new Set<string>();
  readonly #recent: Violation[] = [];
  #total = 0;
  #gaps = 0;
  #maxGap = 0;
  #hasForgotten = false;

  constructor({ recent = 10, maxEntities = 100_000, firstSequence = 1 }: OrderingDetectorOptions = {}) {
    this.#keepRecent = recent;
    this.#maxEntities = maxEntities;
    this.#firstSequence = firstSequence;
  }

  /** Compares the event with the earlier ones of its entity. The first one should have `firstSequence`. */
  observe(event: ObservedEvent): Observation {
    const key = keyOf(event);
    // An unknown entity may be one that was forgotten: its event is a new base line.
    const last = this.#lastSequences.get(key) ?? (this.#hasForgotten ? event.sequence : this.#firstSequence) - 1;
    this.#see(key, Math.max(last, event.sequence));
    if (event.sequence <= last) return old;
    const expected = last + 1;
    if (event.sequence === expected) return inOrder;
    const violation: Violation = {
      entityType: event.entityType,
      entityId: event.entityId,
      expected,
      received: event.sequence,
      messageId: event.messageId,
      type: event.type,
      gap: event.sequence - expected,
      atMs: event.receivedAtMs,
    };
    this.record(violation);
    return { kind: 'violation', violation };
  }

  /** Counts a violation that was detected elsewhere. */
  record(violation: Violation): void {
    this.#total++;
    this.#gaps += violation.gap;
    if (violation.gap > this.#maxGap) this.#maxGap = violation.gap;
    if (this.#affected.size < this.#maxEntities) this.#affected.add(keyOf(violation));
    this.#recent.push(violation);
    if (this.#recent.length > this.#keepRecent) this.#recent.shift();
  }

  statistics(): OrderingStatistics {
    return {
      total: this.#total,
      affectedEntities: this.#affected.size,
      averageGap: this.#total === 0 ? 0 : this.#gaps / this.#total,
      maxGap: this.#maxGap,
      recent: [...this.#recent],
    };
  }

  #see(key: string, sequence: number): void {
    this.#lastSequences.delete(key);
    this.#lastSequences.set(key, sequence);
    if (this.#lastSequences.size <= this.#maxEntities) return;
    this.#hasForgotten = true;
    for (const oldest of this.#lastSequences.keys()) {
      this.#lastSequences.delete(oldest);
      return;
    }
  }
}

function keyOf({ entityType, entityId }: { readonly entityType: string; readonly entityId: string }): string {
  return `${entityType.length}:${entityType}${entityId}`;
}

/** What the middleware does with an event that came before its predecessor. */
export type MiddlewareStrategy =
  /** The handler is not called; the call resolves to undefined. */
  | 'skip'
  /** The call rejects with an `EventError` whose reason is `out_of_order`. */
  | 'fail'
  /** `onViolation` is called, then the handler. */
  | 'log_and_process';

const strategies: readonly string[] = ['skip', 'fail', 'log_and_process'] satisfies MiddlewareStrategy[];

export interface OrderingMiddlewareOptions {
  readonly strategy: MiddlewareStrategy;
  /** Called for every violation, with any strategy. */
  readonly onViolation?: (violation: Violation) => void;
  /** The clock for events without `receivedAtMs`, in milliseconds since 1970: `Date.now`. */
  readonly now: () => number;
}

/** An event as the middleware needs it; `receivedAtMs` is filled in when it is absent. */
export type OrderedInput = Omit<ObservedEvent, 'receivedAtMs'> & { readonly receivedAtMs?: number };

/**
 * Wraps a handler: `withOrdering(detector, { strategy: 'fail', now: Date.now })(handle)`. Repeated and late events reach
 * the handler; use an `idempotent` handler for them.
 *
 * Throws `ConfigError` at once for an unknown strategy, instead of processing without one.
 */
export function withOrdering(detector: OrderingDetector, options: OrderingMiddlewareOptions) {
  const { strategy, onViolation, now } = options;
  if (!strategies.includes(strategy)) {
    throw new ConfigError([`strategy is ${JSON.stringify(strategy)}; it must be one of ${strategies.join(', ')}`]);
  }
  return <Input extends OrderedInput, Rest extends readonly unknown[], Result>(
    handler: (event: Input, ...rest: Rest) => Result | Promise<Result>,
  ) =>
    async (event: Input, ...rest: Rest): Promise<Result | undefined> => {
      const observation = detector.observe({ ...event, receivedAtMs: event.receivedAtMs ?? now() });
      if (observation.kind === 'violation') {
        const { violation } = observation;
        onViolation?.(violation);
        if (strategy === 'skip') return undefined;
        if (strategy === 'fail') throw new EventError('out_of_order', describe(violation));
      }
      return handler(event, ...rest);
    };
}

function describe({ entityType, entityId, expected, received }: Violation): string {
  return `${entityType} ${entityId}: expected sequence ${expected}, received ${received}`;
}
