/**
 * The workers. Each has a place with proxies of its own to the brokers, in which it is started again when it ends, as a supervisor
 * would; the ordinal of the place spreads the shards.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { waitUntil } from '../../../deploy/local/wait-until.ts';
import type { WorkerStatus } from '../../../src/observability/worker-status.ts';
import type { Chance } from '../../simulation/virtual-time.ts';
import type { Owner } from '../../support/services.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { WorkerProcess } from '../../support/worker-process.ts';
import type { Fault, Tally } from './schedule.ts';

/** What workers said that they had ended; of one that was killed, as it last said. */
interface Ended {
  duplicate: number;
  dead_lettered: number;
}

const nothing: Readonly<Ended> = { duplicate: 0, dead_lettered: 0 };

interface Place {
  readonly ordinal: number;
  readonly proxies: readonly TcpProxy[];
  /** Through the proxies. */
  readonly urls: readonly string[];
  readonly ended: Ended;
  worker: WorkerProcess | null;
  /** Something goes wrong with it now. */
  isTaken: boolean;
  /** Of the worker that is there now. */
  now: Readonly<Ended>;
}

const samplingMs = 10_000;
const askingMs = 300;
/** An owner that is to become a zombie has so much in memory that something is left to try when it wakes up. */
const zombieLoad = 100;
/** How long a zombie may take to try something, before its connections are cut so that it notices. */
const zombieMs = 6_000;

export class Fleet {
  readonly places: readonly Place[];
  /** Ends of workers that nobody asked for: what they said last. */
  readonly unexpected: string[] = [];
  readonly #owner: Owner;
  readonly #variables: Readonly<Record<string, string>>;
  readonly #tally: Tally;
  readonly #sampling: NodeJS.Timeout;
  #isEnding = false;

  private constructor(owner: Owner, places: readonly Place[], variables: Readonly<Record<string, string>>, tally: Tally) {
    this.#owner = owner;
    this.places = places;
    this.#variables = variables;
    this.#tally = tally;
    this.#sampling = setInterval(() => void this.#sample(), samplingMs);
    owner.after(() => {
      this.#isEnding = true;
      clearInterval(this.#sampling);
    });
  }

  static async start(
    owner: Owner,
    size: number,
    brokers: readonly string[],
    variables: Readonly<Record<string, string>>,
    tally: Tally,
  ): Promise<Fleet> {
    const places: Place[] = [];
    for (let ordinal = 0; ordinal < size; ordinal++) {
      const proxies = await Promise.all(brokers.map((url) => TcpProxy.start(url)));
      owner.after(() => proxies.forEach((proxy) => proxy.stop()));
      const urls = proxies.map((proxy, index) => proxy.through(brokers[index]!));
      // Each begins with another node.
      const turned = [...urls.slice(ordinal % urls.length), ...urls.slice(0, ordinal % urls.length)];
      places.push({ ordinal, proxies, urls: turned, ended: { ...nothing }, now: nothing, worker: null, isTaken: false });
    }
    const fleet = new Fleet(owner, places, variables, tally);
    // The first one declares the queues; declared at once by all, one that fails takes away what the others have seen.
    for (const place of places) await fleet.#launch(place).then(() => places[0]!.worker!.untilReady());
    await Promise.all(places.map(({ worker }) => worker!.untilReady()));
    return fleet;
  }

  faults(): Fault[] {
    const on = (name: string, act: (place: Place, chance: Chance) => Promise<void>, load = 1): Fault => ({
      name,
      act: (chance) => this.#with(load, chance, (place) => act(place, chance)),
    });
    return [
      on('a worker is killed', (place) => this.#kill(place)),
      on('a worker is stopped in order', (place) => this.#stop(place)),
      on('a worker freezes for a moment', (place, chance) => this.#freeze(place, chance.between(200, 8_000))),
      on('a worker is cut off from the brokers', (place, chance) => this.#cutOff(place, chance)),
      on('the network of a worker is slow', (place, chance) => this.#slow(place, chance.between(1_000, 8_000))),
    ];
  }

  /** A deck of its own, played beside the others. */
  zombies(): Fault[] {
    const act = (chance: Chance) => this.#with(zombieLoad, chance, (place) => this.#zombie(place, chance));
    return [{ name: 'an owner freezes and wakes up as a zombie', act }];
  }

  /** What all workers together said. */
  ended(): Ended {
    const sum = (key: keyof Ended) => this.places.reduce((total, { ended, now }) => total + ended[key] + now[key], 0);
    return { duplicate: sum('duplicate'), dead_lettered: sum('dead_lettered') };
  }

  /** Shards that some worker says are halted. */
  async halted(): Promise<number> {
    const statuses = await Promise.all(this.places.map((place) => statusOf(place)));
    const halted = statuses.flatMap((status) => status?.shards ?? []).filter(({ state }) => state === 'halted');
    return new Set(halted.map(({ shard }) => shard)).size;
  }

  /** What each worker has logged of it. */
  whyHalted(): string {
    const lines = this.places.flatMap(({ worker }) => worker?.output.split('\n') ?? []);
    return lines.filter((line) => line.includes('went backwards') || line.includes('epoch')).join('\n');
  }

  /** All end in order; those that do not say that all went well are named. */
  async end(): Promise<readonly string[]> {
    this.#isEnding = true;
    await this.#sample();
    const problems = await Promise.all(
      this.places.map(async ({ worker, ordinal }) => {
        worker?.signal('SIGTERM');
        const how = await worker?.exited;
        return how === undefined || how.code === 0 ? null : `worker ${ordinal} ended with ${how.code ?? how.signal}: ${lastWords(worker!)}`;
      }),
    );
    return problems.filter((problem) => problem !== null);
  }

  /** Acts on a worker that owns shards and has so many deliveries in memory; on any, if none has for a while. */
  async #with(load: number, chance: Chance, act: (place: Place) => Promise<void>): Promise<void> {
    const first = chance.between(0, this.places.length - 1);
    const free = () => [...this.places.slice(first), ...this.places.slice(0, first)].filter(({ isTaken }) => !isTaken);
    const busy = async () => {
      for (const place of free()) {
        const unsettled = ownedBy(await statusOf(place)).reduce((sum, shard) => sum + shard.unsettled, 0);
        if (unsettled >= load && !place.isTaken) return place;
      }
      return null;
    };
    const work = { what: 'an owner at work', timeoutMs: 30_000, intervalMs: askingMs };
    const place = await waitUntil(busy, work).catch(() => free()[0]!);
    place.isTaken = true;
    await act(place).finally(() => (place.isTaken = false));
  }

  async #launch(place: Place): Promise<void> {
    const worker = await WorkerProcess.start(this.#owner, {
      ...this.#variables,
      AMQP_URL: place.urls.join(','),
      WORKER_ORDINAL: String(place.ordinal),
      WORKER_REPLICAS: String(this.places.length),
    });
    place.worker = worker;
    // Ends before its worker does, which therefore is not replaced.
    this.#owner.after(() => (this.#isEnding = true));
    void worker.exited.then(({ code, signal }) => {
      if (place.worker !== worker || this.#isEnding) return;
      this.unexpected.push(`worker ${place.ordinal} ended with ${code ?? signal}: ${lastWords(worker)}`);
      this.#tally.say(this.unexpected.at(-1)!);
      this.#leave(place);
      setTimeout(() => void (this.#isEnding ? null : this.#launch(place)), 1_000);
    });
  }

  #leave(place: Place): void {
    place.worker = null;
    for (const key of ['duplicate', 'dead_lettered'] as const) place.ended[key] += place.now[key];
    place.now = nothing;
  }

  async #kill(place: Place): Promise<void> {
    const { worker } = place;
    this.#leave(place);
    await worker?.kill();
    this.#tally.killed('worker');
    await this.#launch(place);
  }

  async #stop(place: Place): Promise<void> {
    const { worker } = place;
    this.#leave(place);
    worker?.signal('SIGTERM');
    await worker?.exited;
    this.#tally.count('restarts');
    await this.#launch(place);
  }

  async #freeze({ worker }: Place, ms: number): Promise<void> {
    worker?.signal('SIGSTOP');
    this.#tally.count('freezes');
    await sleep(ms);
    worker?.signal('SIGCONT');
  }

  async #cutOff({ proxies }: Place, chance: Chance): Promise<void> {
    for (const proxy of proxies) proxy.blackHole(true);
    this.#tally.count('partitions');
    // Two heartbeats of the broker are half a minute.
    await sleep(chance.hits(0.3) ? 40_000 : chance.between(500, 10_000));
    await Promise.all(proxies.map((proxy) => proxy.heal()));
  }

  async #slow({ proxies }: Place, ms: number): Promise<void> {
    for (const proxy of proxies) proxy.delay(50, 100);
    this.#tally.count('slow networks');
    await sleep(ms);
    await Promise.all(proxies.map((proxy) => proxy.heal()));
  }

  /**
   * The owner is stopped, and the broker loses its connections while it hears nothing of it. When its successors have gone on, it wakes
   * up and believes that it owns its shards: what it still has in memory comes too late.
   */
  async #zombie(place: Place, chance: Chance): Promise<void> {
    const { worker, proxies } = place;
    if (worker === null) return;
    const owned = ownedBy(await statusOf(place));
    const before = await fencedBy(worker).catch(() => null);
    if (before === null) return;
    worker.signal('SIGSTOP');
    this.#tally.count('freezes');
    for (const proxy of proxies) proxy.halfOpen();
    const isReplaced = async () => {
      // Those that are frozen answer nobody.
      const others = this.places.filter(({ isTaken }) => !isTaken);
      const shards = (await Promise.all(others.map((other) => statusOf(other)))).flatMap((status) => status?.shards ?? []);
      const tookOver = ({ shard, epoch }: (typeof owned)[number]) =>
        shards.some((one) => one.shard === shard && (one.epoch ?? 0) > (epoch ?? 0) && one.totals.applied + one.totals.duplicate > 0);
      return owned.some(tookOver);
    };
    // Nothing may come any more for a successor to take.
    const replaced = await waitUntil(isReplaced, { what: 'the successors', timeoutMs: 60_000, intervalMs: askingMs }).catch(() => false);
    await sleep(chance.between(0, 2_000));
    worker.signal('SIGCONT');
    const isRefused = async () => (await fencedBy(worker).catch(() => before)) > before;
    const refused = await waitUntil(isRefused, { what: 'a refusal', timeoutMs: zombieMs, intervalMs: askingMs }).catch(() => false);
    if (replaced && refused) this.#tally.count('zombies');
    else this.#tally.say(`no zombie: ${replaced ? 'nothing of it was refused' : 'nobody has gone on with its shards'}`);
    for (const proxy of proxies) proxy.cut();
  }

  async #sample(): Promise<void> {
    await Promise.all(
      this.places.map(async (place) => {
        const { worker } = place;
        const status = await statusOf(place);
        if (status === null || place.worker !== worker) return;
        const sum = (key: keyof Ended) => status.shards.reduce((total, { totals }) => total + totals[key], 0);
        place.now = { duplicate: sum('duplicate'), dead_lettered: sum('dead_lettered') };
      }),
    );
  }
}

async function statusOf({ worker }: Place): Promise<WorkerStatus | null> {
  return worker?.status().catch(() => null) ?? null;
}

function ownedBy(status: WorkerStatus | null): WorkerStatus['shards'] {
  return (status?.shards ?? []).filter(({ state, epoch }) => state === 'consuming' && epoch !== null);
}

function fencedBy(worker: WorkerProcess): Promise<number> {
  return worker.metric('inorder_fenced_total');
}

function lastWords(worker: WorkerProcess): string {
  return worker.output.trimEnd().split('\n').slice(-5).join('\n');
}
