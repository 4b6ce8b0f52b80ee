/**
 * Seed after seed, each in a world of its own:
 *
 *   npm run simulate -- [--seeds N] [--from S] [--without FAULT,…] [--entities N] [--events N] [--trace] [--until-failure]
 *
 * Says first what it runs; of each failure the symptom, and the command that shows it with the least that it takes; last how many seeds
 * have reached what only some of them reach. Exits with 1 if a seed failed, if one that was run twice was not the same both times, or
 * if a thousand seeds have left something unreached.
 */
import { parseArgs } from 'node:util';
import { printable } from '../../src/printable.ts';
import { type Outcome, scenarioOf, shrink, simulate } from './simulation.ts';
import { type Fault, faults, type Scenario, sometimes } from './world.ts';

/** One seed in so many is run twice and compared. */
const twiceEvery = 100;
/** So many seeds reach everything. */
const seedsToReachAll = 1_000;
const tracedLines = 200;

interface Request {
  readonly seeds: number;
  readonly from: number;
  readonly isTraced: boolean;
  /** Ends with the first failure, without looking for the least scenario. */
  readonly untilFailure: boolean;
  readonly scenario: Partial<Scenario>;
}

function requestOf(args: readonly string[]): Request {
  const [text, flag] = [{ type: 'string' }, { type: 'boolean' }] as const;
  const options = { seeds: text, from: text, without: text, entities: text, events: text, trace: flag, 'until-failure': flag } as const;
  const { values } = parseArgs({ args: [...args], options });
  const count = (name: 'seeds' | 'from' | 'entities' | 'events', otherwise: number) => {
    const given = values[name];
    if (given !== undefined && !/^\d{1,9}$/.test(given)) throw new Error(`--${name} is ${printable(given)}: give a whole number`);
    return given === undefined ? otherwise : Number(given);
  };
  const without = values.without?.split(',').filter((name) => name !== '');
  const unknown = without?.find((name) => !(faults as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`--without ${printable(unknown)} is no fault: give some of ${faults.join(', ')}`);
  const scenario = {
    ...(without === undefined ? {} : { without: without as Fault[] }),
    ...(values.entities === undefined ? {} : { maxEntities: count('entities', 1) }),
    ...(values.events === undefined ? {} : { maxEvents: count('events', 1) }),
  };
  return {
    seeds: count('seeds', 1_000),
    from: count('from', 1),
    isTraced: values.trace ?? false,
    untilFailure: values['until-failure'] ?? false,
    scenario,
  };
}

function commandOf({ seed, without, maxEntities, maxEvents }: Scenario): string {
  return `npm run simulate -- --seeds 1 --from ${seed} --without "${without.join()}" --entities ${maxEntities} --events ${maxEvents} --trace`;
}

async function repeats(outcome: Outcome): Promise<boolean> {
  const [first, second] = [await simulate(outcome.scenario, true), await simulate(outcome.scenario, true)];
  return first.steps === outcome.steps && first.trace.join('\n') === second.trace.join('\n');
}

/** Returns whether all went well. */
async function run({ seeds, from, isTraced, untilFailure, scenario }: Request, say: (line: string) => void): Promise<boolean> {
  say(`${seeds} seeds from ${from}${Object.keys(scenario).length === 0 ? '' : `, with ${JSON.stringify(scenario)}`}`);
  const reached = new Map<string, number>();
  let [steps, failures] = [0, 0];
  for (let seed = from; seed < from + seeds && !(untilFailure && failures > 0); seed++) {
    const outcome = await simulate({ ...scenarioOf(seed), ...scenario }, isTraced);
    steps += outcome.steps;
    for (const what of outcome.seen) reached.set(what, (reached.get(what) ?? 0) + 1);
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
  for (const what of sometimes) say(`${String(reached.get(what) ?? 0).padStart(8)}  ${what}`);
  say(`${failures} of ${seeds} seeds failed; ${Math.round(steps / seeds)} steps each`);
  return failures === 0 && (seeds < seedsToReachAll || sometimes.every((what) => reached.has(what)));
}

try {
  const isWell = await run(requestOf(process.argv.slice(2)), (line) => void process.stdout.write(`${line}\n`));
  process.exitCode = isWell ? 0 : 1;
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 2;
}
