/**
 * Chaos on clusters: three RabbitMQ nodes, Redis in a form that survives the loss of a master, four workers, publishers, a relay and
 * replays, while seeded faults go on in all of them. Then the faults end, everything has to drain, and the ledger is drawn up.
 *
 * Where the store may lose acknowledged commits (an asynchronous fail-over), an operator goes through what src/stores/README.md says:
 * `recover` has to name every entity that is behind, and no other, and to bring all of them back.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPrivateDirectory, removePrivateDirectory } from '../../../deploy/local/private-directory.ts';
import { waitUntil } from '../../../deploy/local/wait-until.ts';
import { deadLetterQueueName, unroutedQueueName } from '../../../src/rabbitmq/topology-plan.ts';
import { createRedisStore } from '../../../src/stores/redis/redis-store.ts';
import type { Owner } from '../../support/services.ts';
import { WorkerProcess } from '../../support/worker-process.ts';
import { BrokerCluster } from './broker-cluster.ts';
import { Clients, type Sizes } from './clients.ts';
import { Fleet } from './fleet.ts';
import { type Account, Ledger, type Remains } from './ledger.ts';
import { type Domain, type Fault, faultLine, play, shown, Tally, until } from './schedule.ts';
import { startStore, type StoreCluster, type StoreForm } from './store-cluster.ts';

export interface ChaosOptions {
  readonly seed: number;
  readonly form: StoreForm;
  /** Whether a fail-over may lose acknowledged commits. Always so in a cluster. */
  readonly mayLose: boolean;
  /** For how long faults go on; or of each fault that is named, once. */
  readonly duration: { readonly minutes: number } | { readonly faults: readonly string[] };
  /** Between two faults of a domain, in milliseconds. */
  readonly pauseMs: readonly [least: number, most: number];
  readonly sizes: Sizes;
  readonly say: (line: string) => void;
}

export interface Report {
  readonly account: Account;
  readonly tally: Tally;
  /** At least: what a worker had counted since it was last asked is lost when it is killed. */
  readonly duplicates: number;
  readonly deadLettered: number;
  /** Losses that `recover` named and repaired, in entities and events. */
  readonly recovered: { readonly entities: number; readonly events: number };
  /** Empty: every promise was kept. */
  readonly problems: readonly string[];
}

const workers = 4;
const shards = 8;
const gapTimeoutMs = 5_000;
/** After so long everything drains and is looked at, before it goes on. */
const roundMs = 600_000;
/** Everything drains in a bounded time once the faults are over. It is long, for the machine may be busy. */
const drainMs = 600_000;
/** So long nothing changes before an operator takes what is behind for lost, and acknowledgements for gone. */
const settledMs = 20_000;

export async function runChaos(owner: Owner, options: ChaosOptions): Promise<Report> {
  const tally = new Tally(options.say);
  const directory = await createPrivateDirectory('chaos');
  owner.after(() => removePrivateDirectory(directory));
  const [brokers, store] = await Promise.all([BrokerCluster.start(owner, tally), startStore(options.form, options.mayLose, owner, tally)]);
  const stream = 'chaos';
  const variables: Record<string, string> = {
    AMQP_URL: brokers.urls.join(','),
    REDIS_URL: store.url,
    STREAM: stream,
    SHARDS: String(shards),
    PROCESSOR: 'history',
    GAP_TIMEOUT_MS: String(gapTimeoutMs),
    PREFETCH: '200',
    DURABILITY: options.mayLose ? 'none' : 'replicas:1',
  };
  const fleet = await Fleet.start(owner, workers, brokers.urls, variables, tally);
  const ledger = new Ledger(join(directory, 'published.ndjson'), () =>
    createRedisStore({ url: store.url, stream, idempotencyTtlSeconds: 3_600 }),
  );
  const { seed, sizes } = options;
  const clients = new Clients({ owner, directory, stream, shards, variables, gapTimeoutMs, seed, sizes, brokers, ledger, tally });
  const run = new Run({ owner, options, variables, tally, brokers, store, fleet, ledger, clients, stream });
  return run.run();
}

interface Parts {
  readonly owner: Owner;
  readonly variables: Readonly<Record<string, string>>;
  readonly options: ChaosOptions;
  readonly tally: Tally;
  readonly brokers: BrokerCluster;
  readonly store: StoreCluster;
  readonly fleet: Fleet;
  readonly ledger: Ledger;
  readonly clients: Clients;
  readonly stream: string;
}

class Run {
  readonly #parts: Parts;
  readonly #problems: string[] = [];
  #rounds = 0;
  readonly #recovered = { entities: 0, events: 0 };

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async run(): Promise<Report> {
    const { owner, options, tally, clients, fleet, ledger } = this.#parts;
    tally.say('everything is up');
    const serving = clients.serve();
    const endMs = 'minutes' in options.duration ? performance.now() + options.duration.minutes * 60_000 : 0;
    const progress = () => tally.say(`${shown(ledger.published)} events, ${faultLine(tally.kills, tally.seen)}`);
    const reporting = setInterval(progress, 60_000);
    owner.after(() => clearInterval(reporting));
    do {
      const untilMs = Math.min(endMs, performance.now() + roundMs);
      await this.#round(endMs === 0 ? 'once' : () => performance.now() < untilMs);
      tally.say('no more faults: everything has to drain');
      await this.#drain();
      progress();
    } while (performance.now() < endMs && this.#problems.length === 0);
    clients.end();
    await serving;
    // What a replay held until now is back among the dead letters, if it was not done with it.
    await this.#drain();
    this.#problems.push(...(await fleet.end()), ...fleet.unexpected);
    const remains = await this.#remains();
    const account = await ledger.account();
    this.#problems.push(...ledger.verdict(account, remains));
    const { duplicate: duplicates, dead_lettered: deadLettered } = fleet.ended();
    return { account, tally, duplicates, deadLettered, recovered: this.#recovered, problems: this.#problems };
  }

  /** Faults of all domains beside publishing. */
  async #round(goesOn: (() => boolean) | 'once'): Promise<void> {
    const { options, tally, brokers, store, fleet, clients } = this.#parts;
    const chosen = (deck: readonly Fault[]) => {
      const { duration } = options;
      return 'faults' in duration ? deck.filter(({ name }) => duration.faults.includes(name)) : deck;
    };
    const { pauseMs } = options;
    const domains: Domain[] = [
      { name: 'workers', deck: chosen(fleet.faults()), pauseMs },
      { name: 'zombies', deck: chosen(fleet.zombies()), pauseMs },
      { name: 'brokers', deck: chosen(brokers.faults()), pauseMs },
      { name: 'store', deck: chosen(store.faults()), pauseMs },
      // Whoever is killed too often gets nothing done.
      { name: 'clients', deck: chosen(clients.faults()), pauseMs: [3 * pauseMs[0], 3 * pauseMs[1]] },
    ];
    // Halted shards wait for the operator, and everybody with them.
    let isOver = false;
    const watching = setInterval(async () => (isOver ||= options.mayLose && (await fleet.halted()) > 0), 1_000);
    const playsOn = goesOn === 'once' ? goesOn : () => !isOver && goesOn();
    const faults = Promise.all(domains.map((domain) => play(domain, options.seed + this.#rounds, tally, playsOn)));
    this.#rounds++;
    await Promise.all([faults.finally(() => (isOver = true)), clients.publish(() => !isOver)]).finally(() => clearInterval(watching));
  }

  /** Until everything that was published is applied, and nothing waits but what is no event. */
  async #drain(): Promise<void> {
    const { options, clients, fleet, ledger } = this.#parts;
    let last = { seen: '', atMs: performance.now() };
    while (this.#problems.length === 0) {
      await sleep(1_000);
      const halted = await fleet.halted();
      if (halted > 0 && !options.mayLose) {
        this.#problems.push(`${halted} shards are halted, and the store cannot have lost anything:\n${fleet.whyHalted()}`);
      }
      const backlog = await clients.backlog();
      const isAtRest = backlog === 0 || (backlog !== null && halted > 0);
      const account = isAtRest ? await ledger.account().catch(() => null) : null;
      this.#problems.push(...(account?.wrong ?? []));
      if (account?.behind.size === 0 && backlog === 0 && (await this.#areLettersDone())) return;
      const seen = `${backlog} messages are ready, ${account?.applied} events applied, ${account?.behind.size} entities behind`;
      if (seen !== last.seen) last = { seen, atMs: performance.now() };
      const restingMs = performance.now() - last.atMs;
      if (restingMs > drainMs)
        this.#problems.push(`it does not drain: ${seen}, such as ${[...(account?.behind.keys() ?? [])].slice(0, 5)}`);
      if (account === null || restingMs < settledMs) continue;
      if (options.mayLose) await this.#recover(account);
      // Also what was dead-lettered for itself, such as an event that was in work whenever its worker was killed.
      await clients.run('replay', ['dead-letters', 'replay', '--all', '--yes']);
    }
  }

  /** Whether only what is no event is left among the dead letters. */
  async #areLettersDone(): Promise<boolean> {
    const letters = await this.#parts.brokers.bodies(deadLetterQueueName(this.#parts.stream));
    return letters?.every((text) => this.#parts.ledger.poison.has(text)) ?? false;
  }

  /** The store has lost something, or shards have halted because it may have: what an operator does. */
  async #recover({ behind, applied }: Account): Promise<void> {
    const { tally, clients, ledger, fleet } = this.#parts;
    const halted = await fleet.halted();
    const from = ['recover', '--from', ledger.file, '--json'];
    const named = linesOfJson((await clients.run('operator', from)).stdout);
    // A worker has gone on meanwhile: it is not over yet.
    if ((await ledger.account()).applied !== applied) return;
    const differs = named.length !== behind.size || named.some(({ entity_id, version }) => behind.get(entity_id) !== version);
    if (differs) this.#problems.push(`recover names ${named.length} entities that are behind, and ${behind.size} are`);
    const { code, stdout, stderr } = await clients.run('operator', [...from, '--yes']);
    if (code !== 0) return void this.#problems.push(`recover ended with ${code}: ${stderr}${stdout.slice(-500)}`);
    if (halted > 0) tally.count('halts');
    else if (named.length > 0) tally.count('losses without a halt');
    this.#recovered.entities += named.length;
    this.#recovered.events += named.reduce((sum, { version, target }) => sum + target - version, 0);
    tally.say(`recovered: ${named.length} entities were behind; ${halted} shards had halted`);
    const resumed = await clients.run('operator', ['shards', 'resume', '--why', 'recovered', '--yes']);
    if (resumed.code !== 0) this.#problems.push(`shards resume ended with ${resumed.code}: ${resumed.stderr}`);
  }

  /** The queues at the end. Acknowledgements that were lost with their channels come again, and have to be duplicates. */
  async #remains(): Promise<Remains> {
    const { owner, variables, brokers, stream, clients } = this.#parts;
    const isEmpty = async () => (await clients.backlog()) === 0;
    const settled = { what: 'the queues to settle', timeoutMs: settledMs };
    // Where something is broken already, shards may be halted, and nobody would settle it.
    if (!(await waitUntil(isEmpty, settled).catch(() => false)) && this.#problems.length === 0) {
      const finisher = await WorkerProcess.ready(owner, variables);
      await until(isEmpty, 'what came again to be settled');
      const applied = await finisher.metric('inorder_events_total', { outcome: 'applied' });
      if (applied > 0) this.#problems.push(`${applied} events were applied that were not before`);
      finisher.signal('SIGTERM');
      await finisher.exited;
    }
    const [unrouted] = await until(() => brokers.ready([unroutedQueueName(stream)]), 'what was not routed to be counted');
    const letters = await until(() => brokers.bodies(deadLetterQueueName(stream)), 'the dead letters to be read');
    const waiting = await until(() => brokers.ready(clients.queues), 'the shards to be counted');
    return { waiting: waiting.reduce((sum, count) => sum + count, 0), unrouted: unrouted!, letters };
  }
}

function linesOfJson(text: string): { readonly entity_id: string; readonly version: number; readonly target: number }[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}
