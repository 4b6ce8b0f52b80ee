/**
 * A detector around any handler, for consumers that Inorder's worker does not run: it looks at each event
 * before the handler does and acts on a violation by a strategy.
 *
 * It guarantees only that the strategy is followed; it holds nothing back, so it cannot restore an order.
 * Buffering, the fourth strategy, needs acknowledgements and a store: that is the worker.
 */
import { ConfigError, EventError } from '../errors.ts';
import type { ObservedEvent, OrderingDetector, Violation } from './detector.ts';

/** What the middleware does with an event that came before its predecessor. */
export type MiddlewareStrategy =
  /** The handler does not see it; the call resolves to undefined. */
  | 'skip'
  /** The call rejects with an `EventError` whose reason is `out_of_order`. */
  | 'fail'
  /** `onViolation` is told, then the handler runs. */
  | 'log_and_process';

const strategies: readonly string[] = ['skip', 'fail', 'log_and_process'] satisfies MiddlewareStrategy[];

export interface OrderingMiddlewareOptions {
  readonly strategy: MiddlewareStrategy;
  /** Told of every violation, whatever the strategy. */
  readonly onViolation?: (violation: Violation) => void;
  /** Milliseconds since 1970, for events that do not say when they were received: `Date.now`. */
  readonly now: () => number;
}

/** An event as the middleware needs it; `receivedAtMs` is filled in when it is absent. */
export type OrderedInput = Omit<ObservedEvent, 'receivedAtMs'> & { readonly receivedAtMs?: number };

/**
 * Wraps a handler: `withOrdering(detector, { strategy: 'fail', now: Date.now })(handle)`. Events that come again or late pass
 * through to the handler; an `idempotent` handler inside takes care of these.
 *
 * Throws `ConfigError` at once when the strategy is none of the three, rather than process as if there were none.
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
