/**
 * Load for as long as wanted, on a real broker and store, with two workers:
 *
 *   npm run soak -- [--minutes N] [--seed S]              70 % of the peak: disorder, repetitions, big messages, 1,000 open gaps, and
 *                                                         every minute connections that are cut
 *   npm run soak -- --overload [--minutes N] [--seed S]   twice the peak of workers that are slow by their processor, so that broker and
 *                                                         publisher can go twice as fast; then it drains, and the shipped alert of the
 *                                                         lag fires and ends
 *
 * The peak is measured first: what is applied while a small backlog is kept full by the same traffic. What the workers hold at rest after
 * that is the base. Prints a table while it runs, and last a verdict: whether each published event was applied once and in order,
 * whether at rest heap, sockets, listeners and timers are what they were, and whether anything went on growing. Exits with 1 if not.
 * `--preload FILE` loads a module into the workers: one that leaks shows that a soak can fail.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { accountOf } from '../chaos/clusters/ledger.ts';
import { readRulesText, shortenedRules } from '../support/alert-rules.ts';
import { moduleUrl } from '../support/checkout.ts';
import { runToItsEnd } from '../support/long-run.ts';
import { missingPrometheus, PrometheusNode } from '../support/prometheus-node.ts';
import { type Owner, waitFor } from '../support/services.ts';
import { grown, median, notBack, type Sample, tableHead, tableRow } from './soak-report.ts';
import { Stage } from './soak-stage.ts';
import { type Published, publish, Traffic } from './soak-traffic.ts';

interface Plan {
  readonly minutes: number;
  readonly seed: number;
  readonly isOverload: boolean;
  readonly preload: readonly string[];
}

const openGaps = 1_000;
/** Some are always about to close or to open. */
const gapsWanted = 1_100;
const peakSeconds = 30;
/** In it caches are filled: they do not count as growth. */
const warmUpSeconds = { soak: 60, overload: 150 };
/** In the queues while the peak is measured. */
const peakBacklog = 10_000;
const mostEventsPerSecond = 200_000;
const soakShare = 0.7;
const overloadShare = 2;
/** After an overload, so that there is something which is not late. */
const afterShare = 0.3;
const cutEveryMs = 60_000;
/** So many cut each worker off from the broker and from the store. */
const turnsOfAll = 6;
const readyEveryMs = 500;
/** A sample takes time from what it measures. */
const samples = 30;
const leastSampleMs = 10_000;
const lagAlert = 'ALERTS{alertname="LagOverObjective",severity="critical",alertstate="firing"}';
/** The rules as they ship take this long to fire and to end; of a shorter run every duration is so much shorter. */
const fullMinutes = 10;
const healMs = 3_600_000;

class Soak {
  readonly #plan: Plan;
  readonly #stage: Stage;
  readonly #say: (line: string) => void;
  readonly #startedMs = performance.now();
  /** Of all traffic so far. */
  readonly #published: Published = { messages: 0, big: 0 };
  readonly #lengths = new Map<string, number>();
  #problems: string[] = [];
  /** Messages ready in the shards, as of a moment ago. */
  #ready = 0;

  constructor(owner: Owner, plan: Plan, stage: Stage, say: (line: string) => void) {
    this.#plan = plan;
    this.#stage = stage;
    this.#say = say;
    const look = () => stage.ready().then((count) => (this.#ready = count));
    const looking = setInterval(() => void look().catch(() => undefined), readyEveryMs);
    owner.after(() => clearInterval(looking));
  }

  /** Events a second that are applied while there is always something to apply. */
  async peak(): Promise<number> {
    const traffic = this.#traffic('peak');
    const published = this.#publish(traffic, mostEventsPerSecond, () => this.#ready < peakBacklog);
    await this.#within(published, warmUpSeconds[this.#plan.isOverload ? 'overload' : 'soak'] * 1_000);
    const [before, beforeMs] = [(await this.#stage.figures()).ended, performance.now()];
    await this.#within(published, peakSeconds * 1_000);
    const peak = ((await this.#stage.figures()).ended - before) / ((performance.now() - beforeMs) / 1_000);
    traffic.end();
    await published;
    await this.#drained();
    return peak;
  }

  /** What a first reconnection leaves, such as the errors of the last connection, is there once and no growth. */
  async reconnectOnce(): Promise<void> {
    for (let turn = 0; turn < turnsOfAll; turn++) {
      const { reconnects } = await this.#stage.figures();
      const cut = this.#stage.cut(turn);
      this.#say(cut);
      const isBack = async () => !cut.includes('broker') || (await this.#stage.figures()).reconnects > reconnects;
      await waitFor(isBack, { what: 'a reconnection', timeoutMs: healMs });
      await Promise.all(this.#stage.workers.map((worker) => worker.untilReady()));
    }
    await this.#drained();
  }

  async soak(peak: number): Promise<void> {
    const base = await this.#rest('at rest before');
    let turn = 0;
    const rate = peak * soakShare;
    const traffic = this.#traffic('soak');
    const [before, beforeMs] = [this.#published.messages, performance.now()];
    const cuts = setInterval(() => this.#say(this.#stage.cut(turn++)), Math.min(cutEveryMs, this.#plan.minutes * 15_000));
    // A slow minute of the machine must not become an overload.
    const published = this.#publish(traffic, rate, () => this.#ready < 10 * rate);
    const taken = await this.#during(published);
    clearInterval(cuts);
    const reached = ((this.#published.messages - before) * 1_000) / (performance.now() - beforeMs);
    traffic.end();
    await published;
    await this.#drained();
    const rest = await this.#rest('at rest after', base);
    const { figures } = rest;
    this.#say(
      `${Math.round(reached)} events/s, ${Math.round((reached / peak) * 100)} % of the peak; ${figures.reconnects} reconnections, ` +
        `${figures.duplicates} duplicates, ${this.#published.big} big messages, ${median(taken.map((sample) => sample.figures.openGaps))} open gaps`,
    );
    this.#expect(median(taken.map((sample) => sample.figures.openGaps)) >= openGaps, `there were never ${openGaps} open gaps for long`);
    this.#expect(turn === 0 || figures.reconnects > 0, 'nothing connected again');
    this.#expect(
      reached >= rate / 2,
      `only ${Math.round(reached)} of ${Math.round(rate)} events/s were published: the workers did not keep up`,
    );
    this.#problems.push(...notBack(base.holdings, rest.holdings), ...grown(taken));
  }

  /** @param watch Starts what judges the alerts: it keeps connections to the workers, and so neither base nor rest may have them. */
  async overload(peak: number, watch: () => Promise<PrometheusNode>): Promise<void> {
    const base = await this.#rest('at rest before');
    const prometheus = await watch();
    const isFiring = async () => (await prometheus.query(lagAlert)).length > 0;
    const [before, beforeMs] = [this.#published.messages, performance.now()];
    const traffic = this.#traffic('overload');
    const published = this.#publish(traffic, peak * overloadShare, () => true);
    const taken = await this.#during(published);
    const reached = ((this.#published.messages - before) * 1_000) / (performance.now() - beforeMs);
    traffic.end();
    await published;
    const [backlog, overMs] = [await this.#stage.ready(), performance.now()];
    this.#say(`${Math.round(reached)} events/s, ${(reached / peak).toFixed(2)} times the peak; ${backlog} events wait; it drains`);
    await prometheus.untilAlert('LagOverObjective', 'firing');
    this.#say('LagOverObjective has fired');
    const draining = this.#drained();
    taken.push(...(await this.#during(draining, healMs)));
    await draining;
    this.#say(`drained after ${Math.round((performance.now() - overMs) / 1_000)} s`);
    const calm = this.#traffic('after');
    const after = this.#publish(calm, peak * afterShare, () => true);
    const end = waitFor(async () => !(await isFiring()), { what: 'LagOverObjective to end', intervalMs: 1_000, timeoutMs: healMs });
    await Promise.race([end, after]);
    this.#say(`LagOverObjective has ended, ${Math.round((performance.now() - overMs) / 1_000)} s after the overload`);
    calm.end();
    await after;
    await this.#drained();
    await prometheus.stop();
    const rest = await this.#rest('at rest after', base);
    this.#expect(
      reached > 1.5 * peak,
      `only ${(reached / peak).toFixed(2)} times the peak was published: the broker held the publisher up`,
    );
    this.#problems.push(...notBack(base.holdings, rest.holdings), ...grown(taken));
  }

  /** What is wrong; the workers have ended then. */
  async verdict(): Promise<readonly string[]> {
    const { duplicates } = await this.#stage.figures();
    this.#problems.push(...(await this.#stage.end()));
    const account = await accountOf({ url: this.#stage.redisUrl, stream: this.#stage.stream }, this.#lengths);
    const [left, astray] = [await this.#stage.ready(), await this.#stage.astray()];
    this.#say(
      `${account.published} events published in ${this.#published.messages} messages: ${account.applied} applied, at least ${duplicates} duplicates`,
    );
    this.#expect(
      account.behind.size === 0,
      `${account.behind.size} entities have not reached what was published: ${[...account.behind.keys()].slice(0, 5)}`,
    );
    this.#expect(account.applied === account.published, `${account.applied} events were applied of ${account.published}`);
    this.#expect(left === 0, `${left} messages are left in the shards`);
    this.#expect(astray === 0, `${astray} messages were dead-lettered (${this.#stage.reasons}), or found no shard`);
    return [...this.#problems, ...account.wrong];
  }

  #expect(isSo: boolean, problem: string): void {
    if (!isSo) this.#problems.push(problem);
  }

  #traffic(prefix: string): Traffic {
    const { seed, isOverload } = this.#plan;
    // Behind a backlog big ones would be held for so long that they fill the share of memory, which ends gaps early.
    return new Traffic({ prefix, seed, openGaps: gapsWanted, hasBig: !isOverload });
  }

  async #publish(traffic: Traffic, eventsPerSecond: number, mayGo: () => boolean): Promise<void> {
    await publish(this.#stage, traffic, { eventsPerSecond, mayGo }, this.#published);
    for (const [entityId, length] of traffic.lengths) this.#lengths.set(entityId, length);
  }

  /** Until then, or until the work has failed. */
  async #within(work: Promise<void>, ms: number): Promise<void> {
    await Promise.race([sleep(ms), work]);
  }

  /** Samples while the work goes on, at most for so long. */
  async #during(work: Promise<void>, mostMs = this.#plan.minutes * 60_000): Promise<Sample[]> {
    const [taken, endMs] = [[] as Sample[], performance.now() + mostMs];
    let isDone = false;
    const done = () => (isDone = true);
    void work.then(done, done);
    while (!isDone && performance.now() < endMs) {
      await this.#within(work, Math.max(leastSampleMs, (this.#plan.minutes * 60_000) / samples));
      const sample = await this.#sample();
      taken.push(sample);
      this.#say(tableRow(sample));
    }
    return taken;
  }

  async #drained(): Promise<void> {
    await waitFor(() => this.#stage.isDrained(), { what: 'everything to drain', intervalMs: 500, timeoutMs: healMs });
  }

  /** What the workers hold once they have nothing to do; with `base`, once they hold no more than that, or will not. */
  async #rest(what: string, base?: Sample): Promise<Sample> {
    let sample = await this.#sample();
    for (let looks = 0; looks < 10; looks++) {
      await sleep(2_000);
      const before = sample;
      sample = await this.#sample();
      const isStill =
        base === undefined ? notBack(before.holdings, sample.holdings).length === 0 : notBack(base.holdings, sample.holdings).length === 0;
      if (isStill) break;
    }
    this.#say(what);
    this.#say(tableRow(sample));
    return sample;
  }

  async #sample(): Promise<Sample> {
    const [ready, figures, memory] = [await this.#stage.ready(), await this.#stage.figures(), await this.#stage.memory()];
    const [published, holdings] = [this.#published.messages, await this.#stage.holdings()];
    return { atMs: performance.now() - this.#startedMs, published, ready, figures, memory, holdings };
  }
}

function planOf(args: readonly string[]): Plan {
  const options = {
    minutes: { type: 'string' },
    seed: { type: 'string' },
    overload: { type: 'boolean' },
    preload: { type: 'string' },
  } as const;
  const { values } = parseArgs({ args: [...args], options });
  const isOverload = values.overload === true;
  const number = (name: 'minutes' | 'seed', otherwise: number) => {
    const given = values[name] ?? String(otherwise);
    if (!/^\d{1,9}$/.test(given) || Number(given) === 0) throw new Error(`--${name} is ${given}: give a whole number from 1 up`);
    return Number(given);
  };
  const preload = values.preload === undefined ? [] : [values.preload];
  return { isOverload, minutes: number('minutes', isOverload ? 10 : 30), seed: number('seed', 1), preload };
}

async function prometheusOf(plan: Plan, stage: Stage): Promise<PrometheusNode> {
  const missing = await missingPrometheus();
  if (missing !== null) throw new Error(missing);
  const faster = Math.max(1, fullMinutes / plan.minutes);
  const workers = stage.workers.map(({ httpUrl }) => httpUrl.replace('http://', ''));
  const rules = shortenedRules(readRulesText(), faster);
  return PrometheusNode.start({ workers, rules, intervalMs: Math.round(15_000 / faster) });
}

await runToItsEnd(async (owner) => {
  const plan = planOf(process.argv.slice(2));
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  say(`${plan.isOverload ? 'twice the peak' : '70 % of the peak'} for ${plan.minutes} minutes, seed ${plan.seed}`);
  const slow = { PROCESSOR: fileURLToPath(moduleUrl('test/support/slow-processor.ts')), MEMORY_BUDGET_MIB: '16' };
  const variables = plan.isOverload ? slow : { PROCESSOR: 'history', MEMORY_BUDGET_MIB: '32' };
  const stage = await Stage.start(owner, say, variables, plan.preload);
  const soak = new Soak(owner, plan, stage, say);
  const peak = await soak.peak();
  await soak.reconnectOnce();
  say(`the peak is ${Math.round(peak)} events/s\n${tableHead}`);
  if (plan.isOverload) {
    await soak.overload(peak, async () => {
      const prometheus = await prometheusOf(plan, stage);
      owner.after(() => prometheus.stop());
      return prometheus;
    });
  } else await soak.soak(peak);
  const problems = await soak.verdict();
  for (const problem of problems) say(`BROKEN: ${problem}`);
  if (problems.length === 0) say('nothing lost, doubled or misordered; all is back to where it began, and nothing went on growing');
  return problems;
});
process.exit();
