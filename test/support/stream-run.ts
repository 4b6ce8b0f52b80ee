/**
 * A stream with real workers for a test that breaks something around them, and the account that has to be right
 * when the fault is over: every published event applied once and in order, nothing left anywhere, and every worker
 * ends with 0. What the test itself reads and publishes does not pass through the proxies that it puts before its workers.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import amqp from 'amqplib';
import { waitUntil } from '../../deploy/local/wait-until.ts';
import { deadLetterQueueName, shardQueueName, unroutedQueueName } from '../../src/rabbitmq/topology-plan.ts';
import { uniqueStream, waitFor } from './services.ts';
import { publishTrace, readTraces, readyCount, type TraceEvent, untilApplied, wrongTraces } from './trace.ts';
import { type Launcher, WorkerProcess } from './worker-process.ts';

export interface StreamRunOptions {
  /** Both as the test reaches them. */
  readonly amqpUrl: string;
  readonly redisUrl: string;
  /** Where versions and states live, as the test reaches it. Default: `redisUrl`. */
  readonly storeUrl?: string;
  /** What every worker gets beside the usual: for instance a REDIS_URL that leads through a proxy. */
  readonly variables?: Readonly<Record<string, string>>;
}

/** Messages that lie in the queues of the stream at the end. */
export interface Remains {
  readonly deadLetters?: number;
  readonly unrouted?: number;
}

const shards = 2;

export class StreamRun {
  readonly stream: string;
  readonly amqpUrl: string;
  readonly redisUrl: string;
  readonly storeUrl: string;
  readonly #t: TestContext;
  readonly #variables: Readonly<Record<string, string>>;
  readonly #workers: WorkerProcess[] = [];

  constructor(t: TestContext, name: string, options: StreamRunOptions) {
    this.#t = t;
    this.stream = uniqueStream(name);
    this.amqpUrl = options.amqpUrl;
    this.redisUrl = options.redisUrl;
    this.storeUrl = options.storeUrl ?? options.redisUrl;
    this.#variables = {
      AMQP_URL: options.amqpUrl,
      REDIS_URL: options.redisUrl,
      STREAM: this.stream,
      SHARDS: String(shards),
      PROCESSOR: 'history',
      GAP_TIMEOUT_MS: '120000',
      ...options.variables,
    };
  }

  queue(shard: number): string {
    return shardQueueName(this.stream, shard);
  }

  get deadLetters(): string {
    return deadLetterQueueName(this.stream);
  }

  get unrouted(): string {
    return unroutedQueueName(this.stream);
  }

  /** A worker that is ready. */
  async worker(extra: Readonly<Record<string, string>> = {}, launcher?: Launcher): Promise<WorkerProcess> {
    const worker = await WorkerProcess.ready(this.#t, { ...this.#variables, ...extra }, launcher);
    this.#workers.push(worker);
    return worker;
  }

  /** Ends a worker as an operator does: it says that all went well. */
  async end(worker: WorkerProcess): Promise<void> {
    worker.signal('SIGTERM');
    assert.deepEqual(await worker.exited, { code: 0, signal: null }, worker.output);
    this.#workers.splice(this.#workers.indexOf(worker), 1);
  }

  /** Ends a worker with SIGKILL: nothing is asked of it any more. */
  async kill(worker: WorkerProcess): Promise<void> {
    await worker.kill();
    this.#workers.splice(this.#workers.indexOf(worker), 1);
  }

  publish(events: Iterable<TraceEvent>): Promise<void> {
    return publishTrace(this.amqpUrl, this.stream, events);
  }

  ready(queue: string): Promise<number> {
    return readyCount(this.amqpUrl, queue);
  }

  /** Sum of all versions in the store. */
  async applied(): Promise<number> {
    return [...(await readTraces(this.storeUrl, this.stream)).values()].reduce((sum, { version }) => sum + version, 0);
  }

  async untilApplied(count: number, timeoutMs = 30_000): Promise<void> {
    await waitFor(async () => (await this.applied()) >= count, { what: `${count} events applied`, timeoutMs });
  }

  /** A channel of the test's own, on which publishing is confirmed. */
  async channel(): Promise<amqp.ConfirmChannel> {
    const connection = await amqp.connect(this.amqpUrl);
    this.#t.after(() => connection.close().catch(() => undefined));
    return connection.createConfirmChannel();
  }

  /**
   * The account after the fault: all entities at `length` with each event once and in order, and, once the workers
   * have ended and so given back what they may still have had, nothing in any queue but what `remains` names.
   */
  async assertBalanced(entities: number, length: number, remains: Remains = {}): Promise<void> {
    await untilApplied(this.storeUrl, this.stream, entities, length, 30_000);
    await this.assertNothingLeft(remains);
  }

  /**
   * The account where entities differ in length: each is right as far as it goes. Acknowledgements that the broker had not
   * taken when a channel was closed are lost with it: what was applied then comes again, to a worker that is started for it, and has to
   * be a duplicate.
   */
  async assertNothingLeft({ deadLetters = 0, unrouted = 0 }: Remains = {}): Promise<void> {
    const before = await readTraces(this.storeUrl, this.stream);
    assert.deepEqual(wrongTraces(before), []);
    // A worker that stops finishes what it has begun, so nothing is waited for here but the broker's own settling.
    for (const worker of [...this.#workers]) await this.end(worker);
    const expected: Record<string, number> = { [this.deadLetters]: deadLetters, [this.unrouted]: unrouted };
    for (let shard = 0; shard < shards; shard++) expected[this.queue(shard)] = 0;
    let left = await this.#settled(expected);
    const again = left[this.queue(0)]! + left[this.queue(1)]!;
    if (again > 0) {
      this.#t.diagnostic(`${again} acknowledgements were lost with their channels`);
      const finisher = await this.worker();
      await this.#settled(expected);
      assert.equal(await finisher.metric('inorder_events_total', { outcome: 'applied' }), 0, 'what comes again was applied before');
      await this.end(finisher);
      left = await this.#settled(expected);
      assert.deepEqual(await readTraces(this.storeUrl, this.stream), before);
    }
    assert.deepEqual(left, expected);
  }

  /** What is in the queues once it is what is expected, or does not become so. */
  async #settled(expected: Readonly<Record<string, number>>): Promise<Readonly<Record<string, number>>> {
    let left: Record<string, number> = {};
    const count = async () => {
      left = Object.fromEntries(await Promise.all(Object.keys(expected).map(async (queue) => [queue, await this.ready(queue)])));
      return Object.entries(expected).every(([queue, messages]) => left[queue] === messages);
    };
    // What is not there after a while stays: acknowledgements were lost.
    await waitUntil(count, { what: 'the queues to settle', timeoutMs: 10_000 }).catch(() => undefined);
    return left;
  }
}

/** The state that a shard says it is in, over all of a worker's shards: `{ consuming: 2 }`. */
export async function shardStates(worker: WorkerProcess): Promise<Readonly<Record<string, number>>> {
  const states: Record<string, number> = {};
  for (const { state } of (await worker.status()).shards) states[state] = (states[state] ?? 0) + 1;
  return states;
}

/** Waits until every shard of the worker is paused because the store is away. */
export async function untilPaused(worker: WorkerProcess): Promise<void> {
  await waitFor(async () => (await shardStates(worker))['paused'] === shards, { what: 'paused shards', timeoutMs: 30_000 });
}

/** Waits until every shard consumes. */
export async function untilConsuming(worker: WorkerProcess): Promise<void> {
  await waitFor(async () => (await shardStates(worker))['consuming'] === shards, { what: 'consuming shards', timeoutMs: 30_000 });
}
