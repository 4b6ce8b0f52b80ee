/**
 * A detector around any handler, for consumers other than Inorder's worker: it checks each event
 * before the handler runs, and treats a violation by a strategy.
 *
 * It guarantees only the strategy; it holds no events, so it cannot restore an order.
 * Buffering, the fourth strategy, needs acknowledgements and a store, that is, a worker.
 */
import { ConfigError, EventError } from '../errors.ts';
import type { ObservedEvent, OrderingDetector, Violation } from './detector.ts';

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
