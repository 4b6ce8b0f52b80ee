/** Makes prom-client's metrics from the rows of the table. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { metricTable } from './metric-table.ts';
import type { MetricName } from './metric-table.ts';

export class MetricMaker {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  counter(name: MetricName): Counter {
    return new Counter(this.#base(name));
  }

  gauge(name: MetricName): Gauge {
    return new Gauge(this.#base(name));
  }

  histogram(name: 'message_sequence_gap' | 'message_processing_lag_seconds' | 'inorder_commit_seconds'): Histogram {
    return new Histogram({ ...this.#base(name), buckets: [...metricTable[name].buckets] });
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
