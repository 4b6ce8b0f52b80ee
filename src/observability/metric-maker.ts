/** Makes prom-client's metrics from the rows of the table, with a bounded number of label values. */
import { Counter, Gauge, Histogram, openMetricsContentType, type Registry, type RegistryContentType } from 'prom-client';
import { type MetricName, metricTable } from './metric-table.ts';

/** `traceId`: the exemplar of the value. */
export type Observe = (value: number, traceId?: string) => void;

export class MetricMaker {
  readonly #registry: Registry<RegistryContentType>;
  readonly #exemplars: boolean;

  constructor(registry: Registry<RegistryContentType>) {
    this.#registry = registry;
    this.#exemplars = registry.contentType === openMetricsContentType;
  }

  counter(name: MetricName): Counter {
    return new Counter(this.#base(name));
  }

  gauge(name: MetricName): Gauge {
    return new Gauge(this.#base(name));
  }

  histogram(name: 'message_sequence_gap' | 'message_processing_lag_seconds' | 'inorder_commit_seconds'): Histogram {
    return new Histogram({ ...this.#base(name), buckets: [...metricTable[name].buckets], enableExemplars: this.#exemplars });
  }

  /** Observes values of a histogram with these labels, and an exemplar if exemplars are on and a trace is given. */
  observer(histogram: Histogram, labels: Readonly<Record<string, string>>): Observe {
    const child = histogram.labels(labels);
    if (!this.#exemplars) return (value) => child.observe(value);
    return (value, traceId) => {
      if (traceId === undefined) child.observe(value);
      else histogram.observe({ labels, value, exemplarLabels: { trace_id: traceId } });
    };
  }

  #base(name: MetricName) {
    const { help, labels } = metricTable[name];
    return { name, help, labelNames: ['service', ...labels], registers: [this.#registry] };
  }
}

/** A counter that appears with its first increment has no rate over it. */
export function startedAtZero(child: Counter.Internal): Counter.Internal {
  child.inc(0);
  return child;
}

export const maxLabelValues = 100;
/** Longer types are counted as `other`. */
const maxLabelLength = 128;
const other = 'other';

/**
 * Makes one child per label value, once, and returns it from then on. The values come from messages, so publishers can
 * invent any number of types: the first hundred get their own child, all later ones are `other`.
 */
export class BoundedChildren<Child> {
  readonly #make: (value: string) => Child;
  readonly #children = new Map<string, Child>();
  #other: Child | null = null;

  constructor(make: (value: string) => Child) {
    this.#make = make;
  }

  get(value: string): Child {
    const known = this.#children.get(value);
    if (known !== undefined) return known;
    if (this.#children.size >= maxLabelValues || value.length > maxLabelLength) {
      return (this.#other ??= this.#make(other));
    }
    const child = this.#make(value);
    this.#children.set(value, child);
    return child;
  }

  /** All children. */
  *all(): Iterable<Child> {
    yield* this.#children.values();
    if (this.#other !== null) yield this.#other;
  }
}
