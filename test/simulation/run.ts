/**
 * Seed after seed, each in a world of its own:
 *
 *   npm run simulate -- [--seeds N] [--from S] [--jobs N] [--with FAULT,…] [--without FAULT,…] [--entities N] [--events N] [--trace]
 *                       [--until-failure]
 *   npm run simulate -- --exhaustive
 *
 * Says first what it runs; of each failure the symptom, and the command that shows it with the least that it takes; last how many seeds
 * have reached what only some of them reach, and how many a core does in a minute. Exits with 1 if a seed failed, if one that was run
 * twice was not the same both times, or if a thousand seeds have left something unreached. Seeds are shared out among as many processes as
 * there are cores, or `--jobs`, each with five hundred at least; with `--trace` and `--until-failure` they run one after the other.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { printable } from '../../src/printable.ts';
import { explore, largerScopes, scopes, summaryOf } from './exhaustive.ts';
import { openCore } from './opened-core.ts';
import { type Outcome, scenarioOf, shrink, simulate } from './simulation.ts';
import { type Fault, faults, type Scenario, sometimes } from './world.ts';

/** One seed in so many is run twice and compared. */
const twiceEvery = 100;
/** So many seeds reach everything. */
const seedsToReachAll = 1_000;
const tracedLines = 200;
/** What a process has to be given to be worth its start. */
const fewestSeeds = 500;
/** What one process is given at a time: of some worlds a little stays in its memory. */
const mostSeeds = 20_000;

interface Request {
  readonly seeds: number;
  readonly from: number;
  /** Processes. */
  readonly jobs: number;
  /** Seeds that switch one of these off are passed over. */
  readonly having: readonly Fault[];
  readonly isTraced: boolean;
  /** Ends with the first failure, or a thousand seeds that do not reach everything; it does not look for the least scenario. */
  readonly untilFailure: boolean;
  readonly scenario: Partial<Scenario>;
  /** Instead of seeds. */
  readonly isExhaustive: boolean;
}

function requestOf(args: readonly string[]): Request {
  const [text, flag] = [{ type: 'string' }, { type: 'boolean' }] as const;
  const options = {
    seeds: text,
    from: text,
    jobs: text,
    with: text,
    without: text,
    entities: text,
    events: text,
    trace: flag,
    'until-failure': flag,
    exhaustive: flag,
  } as const;
  const { values } = parseArgs({ args: [...args], options });
  const count = (name: 'seeds' | 'from' | 'jobs' | 'entities' | 'events', otherwise: number) => {
    const given = values[name];
    if (given !== undefined && !/^\d{1,9}$/.test(given)) throw new Error(`--${name} is ${printable(given)}: give a whole number`);
    return given === undefined ? otherwise : Number(given);
  };
  const named = (option: 'with' | 'without') => {
    const names = values[option]?.split(',').filter((name) => name !== '');
    const unknown = names?.find((name) => !(faults as readonly string[]).includes(name));
    if (unknown !== undefined) throw new Error(`--${option} ${printable(unknown)} is no fault: give some of ${faults.join(', ')}`);
    return names as Fault[] | undefined;
  };
  const without = named('without');
  const scenario = {
    ...(without === undefined ? {} : { without }),
    ...(values.entities === undefined ? {} : { maxEntities: count('entities', 1) }),
    ...(values.events === undefined ? {} : { maxEvents: count('events', 1) }),
  };
  const seeds = count('seeds', 1_000);
  const [isTraced, untilFailure] = [values.trace ?? false, values['until-failure'] ?? false];
  const isInOrder = isTraced || untilFailure;
  return {
    seeds,
    from: count('from', 1),
    jobs: isInOrder ? 1 : Math.max(1, Math.min(count('jobs', availableParallelism()), Math.floor(seeds / fewestSeeds))),
    having: named('with') ?? [],
    isTraced,
    untilFailure,
    scenario,
    isExhaustive: values.exhaustive ?? false,
  };
}

function commandOf({ seed, without, maxEntities, maxEvents }: Scenario): string {
  return `npm run simulate -- --seeds 1 --from ${seed} --without "${without.join()}" --entities ${maxEntities} --events ${maxEvents} --trace`;
}

async function repeats(outcome: Outcome): Promise<boolean> {
  const [first, second] = [await simulate(outcome.scenario, true), await simulate(outcome.scenario, true)];
  return first.steps === outcome.steps && first.trace.join('\n') === second.trace.join('\n');
}

/** What some seeds have come to. */
interface Tally {
  readonly steps: number;
  readonly failures: number;
  readonly done: number;
  readonly cpuMs: number;
  /** How many seeds have reached each. */
  readonly reached: Readonly<Record<string, number>>;
}

type Say = (line: string) => void;

async function runSeeds({ seeds, from, having, isTraced, untilFailure, scenario }: Request, say: Say): Promise<Tally> {
  const reached: Record<string, number> = {};
  let [steps, failures, done] = [0, 0, 0];
  const cpuAtFirst = process.cpuUsage();
  const isUnreached = () => having.length === 0 && !isAllReached(reached);
  const isOver = (ran: number) => failures > 0 || (ran === seedsToReachAll && isUnreached());
  for (let seed = from; seed < from + seeds && !(untilFailure && isOver(seed - from)); seed++) {
    const drawn = scenarioOf(seed);
    if (having.some((fault) => drawn.without.includes(fault))) continue;
    const outcome = await simulate({ ...drawn, ...scenario }, isTraced);
    steps += outcome.steps;
    done++;
    for (const what of outcome.seen) reached[what] = (reached[what] ?? 0) + 1;
    if (isTraced) for (const line of outcome.trace.slice(-tracedLines)) say(line);
    if (outcome.failure !== null) {
      failures++;
      const { scenario: least, failure } = untilFailure ? outcome : await shrink(outcome);
      say(`seed ${seed}: ${failure?.symptom} (${failure?.detail}), at ${failure?.atMs} ms\n  ${commandOf(least)}`);
    } else if (seed % twiceEvery === 0 && !(await repeats(outcome))) {
      failures++;
      say(`seed ${seed}: it does not repeat\n  ${commandOf(outcome.scenario)}`);
    }
  }
  const { user, system } = process.cpuUsage(cpuAtFirst);
  return { steps, failures, done, cpuMs: (user + system) / 1_000, reached };
}

function isAllReached(reached: Tally['reached']): boolean {
  return sometimes.every((what) => reached[what] !== undefined);
}

/** Each process has a part of the seeds, and says itself what goes wrong with them. */
async function runInParts({ seeds, from, jobs }: Request, args: readonly string[]): Promise<Tally> {
  const size = Math.min(mostSeeds, Math.ceil(seeds / jobs));
  const starts: number[] = [];
  for (let start = from; start < from + seeds; start += size) starts.push(start);
  const tallies: Tally[] = [];
  const work = async () => {
    for (let start = starts.shift(); start !== undefined; start = starts.shift())
      tallies.push(await runPart(start, Math.min(size, from + seeds - start), args));
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return tallies.reduce((all, part) => {
    const reached = { ...all.reached };
    for (const [what, count] of Object.entries(part.reached)) reached[what] = (reached[what] ?? 0) + count;
    const sum = (what: 'steps' | 'failures' | 'done' | 'cpuMs') => all[what] + part[what];
    return { steps: sum('steps'), failures: sum('failures'), done: sum('done'), cpuMs: sum('cpuMs'), reached };
  });
}

async function runPart(from: number, seeds: number, args: readonly string[]): Promise<Tally> {
  const child = fork(import.meta.filename, [...args, '--from', String(from), '--seeds', String(seeds), '--jobs', '1']);
  const [tally] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [Tally | number | null];
  if (typeof tally === 'object' && tally !== null) return tally;
  throw new Error(`the process with ${seeds} seeds from ${from} ended with ${tally}`);
}

/** Returns whether all went well. */
async function run(request: Request, args: readonly string[], say: Say): Promise<boolean> {
  const { seeds, from, jobs, having, scenario } = request;
  say(`${seeds} seeds from ${from}${Object.keys(scenario).length === 0 ? '' : `, with ${JSON.stringify(scenario)}`}`);
  const { steps, failures, done, cpuMs, reached } = await (jobs === 1 ? runSeeds(request, say) : runInParts(request, args));
  for (const what of sometimes) say(`${String(reached[what] ?? 0).padStart(8)}  ${what}`);
  say(
    `${failures} of ${done} seeds failed; ${Math.round(steps / done)} steps each, ${Math.round((done / cpuMs) * 60_000)} seeds a minute of one core`,
  );
  return failures === 0 && (seeds < seedsToReachAll || having.length > 0 || isAllReached(reached));
}

async function visitAll(say: Say): Promise<boolean> {
  const core = await openCore();
  for (const scope of [...scopes, ...largerScopes]) {
    const exploration = explore(core, scope);
    say(summaryOf(scope, exploration));
    if (exploration.breach === null) continue;
    say(`${exploration.breach.symptom}:\n  ${exploration.breach.trace.join('\n  ')}`);
    return false;
  }
  return true;
}

try {
  const args = process.argv.slice(2);
  const request = requestOf(args);
  const say: Say = (line) => void process.stdout.write(`${line}\n`);
  // It has a part of another one's seeds.
  if (process.send !== undefined) process.send(await runSeeds(request, say));
  else process.exitCode = (await (request.isExhaustive ? visitAll(say) : run(request, args, say))) ? 0 : 1;
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 2;
}
