/**
 * Who publishes and who replays, as commands in processes that are killed now and then. Whatever does not end with success is run
 * again, as its user would, and so everything that the ledger knows is published at least once.
 */
import type { ChildProcess } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { waitUntil } from '../../../deploy/local/wait-until.ts';
import { deadLetterQueueName, shardQueueName } from '../../../src/rabbitmq/topology-plan.ts';
import { Chance } from '../../simulation/virtual-time.ts';
import { type CommandResult, startCommand } from '../../support/command-process.ts';
import type { Owner } from '../../support/services.ts';
import { interleaved, type TraceEvent } from '../../support/trace.ts';
import type { BrokerCluster } from './broker-cluster.ts';
import { type Ledger, linesOf } from './ledger.ts';
import { type Fault, type Tally, until } from './schedule.ts';

/** How much is under way at once, and how it is cut. */
export interface Sizes {
  /** Of one chunk that is published. */
  readonly entities: number;
  readonly length: number;
  /** Publishing waits while more messages than this are ready in the shards. */
  readonly backlog: number;
  /** Whether a part goes through the event store and the relay. */
  readonly relay: boolean;
}

export interface ClientOptions {
  readonly owner: Owner;
  readonly directory: string;
  readonly stream: string;
  readonly shards: number;
  readonly variables: Readonly<Record<string, string>>;
  readonly gapTimeoutMs: number;
  readonly seed: number;
  readonly sizes: Sizes;
  readonly brokers: BrokerCluster;
  readonly ledger: Ledger;
  readonly tally: Tally;
}

type Kind = 'publisher' | 'append' | 'relay' | 'replay' | 'operator';

const killable: readonly Kind[] = ['publisher', 'append', 'relay', 'replay'];
const againMs = 500;
const askingMs = 1_000;
const maxAttempts = 200;
const patienceMs = 10_000;
const replayEveryMs = 3_000;
/** One entity in so many lacks an event, which comes when its gap is over. */
const gapEvery = 30;
const relays = 2;
/** Names of those who publish chunks beside each other, and of who appends them; the names of entities begin with them. */
const publishers = ['p', 'q'];
const appender = 'r';

export class Clients {
  readonly #options: ClientOptions;
  readonly #running = new Map<Kind, Set<ChildProcess>>();
  readonly #ending = new AbortController();
  /** No two chunks have entities of the same name, in whatever round they are published. */
  #chunks = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    options.owner.after(() => this.#end());
  }

  faults(): Fault[] {
    return killable
      .filter((kind) => this.#options.sizes.relay || (kind !== 'append' && kind !== 'relay'))
      .map((kind) => ({ name: `${kind} killed`, act: (chance) => this.#kill(kind, chance) }));
  }

  /** Until it is told to end, at least one chunk each; resolves when all that was begun is published. */
  async publish(goesOn: () => boolean): Promise<void> {
    const send = (file: string, chance: Chance) => this.#publish(file, chance.between(1, 1_000_000));
    const lanes = publishers.map((name) => this.#lane(name, send, goesOn));
    if (this.#options.sizes.relay) lanes.push(this.#lane(appender, (file) => this.#done('append', ['events', 'append', file]), goesOn));
    await Promise.all(lanes);
  }

  /** Relays and replays run beside everything else until `end`. A replay takes what can be replayed by then. */
  async serve(): Promise<void> {
    const { signal } = this.#ending;
    const relaying = Array.from({ length: this.#options.sizes.relay ? relays : 0 }, async () => {
      while (!signal.aborted) {
        await this.run('relay', ['relay']);
        await sleep(againMs);
      }
    });
    const replaying = async () => {
      while (!signal.aborted) {
        await sleep(replayEveryMs);
        const letters = await this.#options.brokers.ready([deadLetterQueueName(this.#options.stream)]);
        if (letters !== null && letters[0]! > this.#options.ledger.poison.size && !signal.aborted)
          await this.run('replay', ['dead-letters', 'replay', '--ready', '--yes']);
      }
    };
    await Promise.all([...relaying, replaying()]);
  }

  end(): void {
    this.#ending.abort();
    for (const child of this.#running.get('relay') ?? []) child.kill('SIGTERM');
  }

  /** Runs a command to its end. */
  async run(kind: Kind, words: readonly string[]): Promise<CommandResult> {
    const { process: child, ended } = await startCommand(words, this.#options.variables);
    child.stdin.on('error', () => undefined);
    child.stdin.end();
    const running = this.#running.get(kind) ?? new Set();
    this.#running.set(kind, running.add(child));
    const result = await ended;
    running.delete(child);
    return result;
  }

  get queues(): readonly string[] {
    return Array.from({ length: this.#options.shards }, (_, shard) => shardQueueName(this.#options.stream, shard));
  }

  /** Messages ready in all shards; null while nobody says it. */
  async backlog(): Promise<number | null> {
    const counts = await this.#options.brokers.ready(this.queues);
    return counts?.reduce((sum, count) => sum + count, 0) ?? null;
  }

  async #lane(prefix: string, send: (file: string, chance: Chance) => Promise<void>, goesOn: () => boolean): Promise<void> {
    const { sizes, seed, ledger, directory, gapTimeoutMs } = this.#options;
    const chance = new Chance(seed, `lane ${prefix} ${this.#chunks}`);
    const late: Promise<void>[] = [];
    const sendNamed = async (name: string, events: readonly TraceEvent[]) => {
      const file = join(directory, `${name}.ndjson`);
      await writeFile(file, linesOf(events));
      await send(file, chance);
      await rm(file);
    };
    do {
      const hasRoom = async () => !goesOn() || ((await this.backlog()) ?? Infinity) < sizes.backlog;
      await until(hasRoom, 'the backlog to shrink', askingMs);
      const name = `${prefix}${++this.#chunks}`;
      const share = prefix === appender ? 10 : 1;
      const all = interleaved(Math.ceil(sizes.entities / share), sizes.length, name);
      await ledger.note(all);
      if (prefix === appender) {
        await sendNamed(name, byEntity(all));
        continue;
      }
      const missing = all.filter(({ sequence }) => sequence > 1 && chance.hits(1 / gapEvery / sizes.length));
      await sendNamed(
        name,
        all.filter((event) => !missing.includes(event)),
      );
      await this.#poison(`${name} is no event`);
      if (missing.length > 0) late.push(sleep(2 * gapTimeoutMs).then(() => sendNamed(`${name}-late`, missing)));
    } while (goesOn() && !this.#ending.signal.aborted);
    await Promise.all(late);
  }

  #publish(file: string, seed: number): Promise<void> {
    const perturbed = ['--shuffle', '100', '--duplicate', '0.01', '--seed', String(seed)];
    return this.#done('publisher', ['publish', file, ...perturbed]);
  }

  /** Runs a command again and again until it has done it. */
  async #done(kind: Kind, words: readonly string[]): Promise<void> {
    for (let attempts = 1; ; attempts++) {
      const { code, stderr } = await this.run(kind, words);
      if (code === 0 || this.#ending.signal.aborted) return;
      if (code === 2 || attempts === maxAttempts) throw new Error(`inorder ${words.join(' ')} ended with ${code}: ${stderr}`);
      await sleep(againMs);
    }
  }

  async #poison(text: string): Promise<void> {
    const { brokers, stream, ledger } = this.#options;
    ledger.poison.add(text);
    const send = async () =>
      brokers.attempt(async (channel) => {
        channel.publish(stream, text, Buffer.from(text), { persistent: true, contentType: 'application/json' });
        await channel.waitForConfirms();
        return true;
      });
    await until(send, 'a message that is no event to be confirmed');
  }

  async #kill(kind: Kind, chance: Chance): Promise<void> {
    const running = () => [...(this.#running.get(kind) ?? [])].at(-1);
    // There may be nothing to publish or to replay now.
    const child = await waitUntil(running, { what: kind, timeoutMs: patienceMs }).catch(() => null);
    await sleep(chance.between(0, 4_000));
    if (child?.kill('SIGKILL')) this.#options.tally.killed(kind);
  }

  #end(): void {
    this.end();
    for (const children of this.#running.values()) for (const child of children) child.kill('SIGKILL');
  }
}

/** Events of one entity one after the other, as a log takes them. */
function byEntity(events: readonly TraceEvent[]): TraceEvent[] {
  return [...events].sort((a, b) => (a.entityId < b.entityId ? -1 : a.entityId > b.entityId ? 1 : a.sequence - b.sequence));
}
