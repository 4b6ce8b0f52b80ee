/** What the benchmark tells the process of a contender, and what that process reports: JSON in a variable, JSON on a line. */

export interface Task {
  readonly amqpUrl: string;
  readonly redisUrl: string;
  readonly queues: readonly string[];
  /** Messages that wait in the queues, all together. */
  readonly events: number;
  readonly prefetch: number;
  /** For the recipe: messages of different shards are worked on at the same time. */
  readonly parallel: boolean;
  /** Every key that the contender writes starts with it. */
  readonly keyPrefix: string;
}

export interface Measurement {
  readonly events: number;
  /** From the first delivery to the last acknowledgement. */
  readonly durationMs: number;
}

const variable = 'BENCH_TASK';

export function taskEnvironment(task: Task): Record<string, string> {
  return { [variable]: JSON.stringify(task) };
}

export function readTask(): Task {
  return JSON.parse(process.env[variable] ?? '') as Task;
}

export function report(measurement: Measurement): void {
  process.stdout.write(`${JSON.stringify(measurement)}\n`);
}

export function readReport(output: string): Measurement {
  return JSON.parse(output) as Measurement;
}
