/**
 * Starts a contender in a process of its own on queues that are full, and says how long it took to empty them. The
 * two baselines measure themselves. Inorder is `inorder worker` as users run it, so it is measured from outside
 * by its status, and to its disadvantage: from the last reading without a delivery to the first with everything done.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ShardStatus, WorkerStatus } from '../../src/index.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { commandLine } from '../support/checkout.ts';
import { type Measurement, readReport, type Task, taskEnvironment } from './task.ts';

export type ContenderName = 'raw' | 'inorder' | 'recipe' | 'recipe-per-shard';

export interface Inorder {
  readonly stream: string;
  /** Flags of Node for the worker's process, such as `--cpu-prof`. */
  readonly nodeFlags: readonly string[];
}

const readingEveryMs = 50;
const roundTimeoutMs = 600_000;

export async function runBaseline(name: Exclude<ContenderName, 'inorder'>, task: Task): Promise<Measurement> {
  const program = name === 'raw' ? 'raw-consumer' : 'recipe-pipeline';
  const compiled = import.meta.url.endsWith('.js');
  const file = fileURLToPath(new URL(`./${program}.${compiled ? 'js' : 'ts'}`, import.meta.url));
  const child = spawn(process.execPath, [...(compiled ? [] : ['--import', 'tsx']), file], {
    env: { ...process.env, ...taskEnvironment(task) },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: roundTimeoutMs,
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${program} ended with ${code ?? 'a signal'}`);
  return readReport(output);
}

export async function runInorder(task: Task, { stream, nodeFlags }: Inorder): Promise<Measurement> {
  const port = await freePort();
  const { PATH, HOME, TMPDIR } = process.env;
  const child = spawn(process.execPath, [...nodeFlags, ...commandLine, 'worker'], {
    env: {
      PATH,
      HOME,
      TMPDIR,
      AMQP_URL: task.amqpUrl,
      REDIS_URL: task.redisUrl,
      STREAM: stream,
      SHARDS: String(task.queues.length),
      PREFETCH: String(task.prefetch),
      PROCESSOR: 'order',
      HTTP_PORT: String(port),
      LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const ended = once(child, 'exit');
  try {
    return await measureFromOutside(child, `http://127.0.0.1:${port}/status`, task.events);
  } finally {
    child.kill('SIGTERM');
    await ended;
  }
}

async function measureFromOutside(child: ChildProcess, url: string, events: number): Promise<Measurement> {
  let startedMs: number | null = null;
  const deadlineMs = performance.now() + roundTimeoutMs;
  for (;;) {
    const askedMs = performance.now();
    const reading = await readCounters(url);
    if (startedMs === null || reading === null || reading.delivered === 0) startedMs = askedMs;
    else if (reading.applied === events) return { events, durationMs: performance.now() - startedMs };
    else if (reading.settled >= events) throw new Error(`${reading.settled - reading.applied} of ${events} events were not applied`);
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('the worker ended');
    if (performance.now() > deadlineMs) throw new Error(`the worker was not done after ${roundTimeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, readingEveryMs));
  }
}

interface Reading {
  readonly delivered: number;
  readonly applied: number;
  readonly settled: number;
}

/** Null as long as nobody listens. `/status` costs the worker a fraction of what its metrics do. */
async function readCounters(url: string): Promise<Reading | null> {
  const response = await fetch(url).catch(() => null);
  if (response === null) return null;
  const { shards } = (await response.json()) as WorkerStatus;
  const sum = (count: (totals: ShardStatus['totals']) => number) => shards.reduce((total, { totals }) => total + count(totals), 0);
  return {
    delivered: sum(({ delivered }) => delivered),
    applied: sum(({ applied }) => applied),
    settled: sum(({ applied, duplicate, skipped, dead_lettered }) => applied + duplicate + skipped + dead_lettered),
  };
}
