/**
 * Chaos on clusters, for as long as wanted:
 *
 *   npm run chaos -- --minutes M --seed S [--store sentinels|cluster] [--losses] [--entities N] [--events N] [--totals FILE]
 *
 * Prints first what it runs, then each fault as it begins, every minute how far it is, and last what was published, what became of it and
 * what had happened. `--totals` adds the figures to a file, one line a run, and prints the sums of all runs in it.
 * `--losses`: fail-overs may lose what was acknowledged, and an operator repairs it; a cluster always may. Exits with 0 if every promise
 * was kept, with 1 if not, with 130 or 143 after a signal; whatever it has started ends with it.
 */
import { appendFile, readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { runToItsEnd } from '../../support/long-run.ts';
import { type Report, runChaos } from './chaos.ts';
import { faultLine, shown } from './schedule.ts';

const text = { type: 'string' } as const;
const options = {
  minutes: text,
  seed: text,
  store: text,
  losses: { type: 'boolean' },
  entities: text,
  events: text,
  totals: text,
} as const;

function requestOf(args: readonly string[]) {
  const { values } = parseArgs({ args: [...args], options });
  const number = (name: 'minutes' | 'seed' | 'entities' | 'events', otherwise: number) => {
    const given = values[name];
    if (given !== undefined && !/^\d{1,9}$/.test(given)) throw new Error(`--${name} is ${given}: give a whole number`);
    return given === undefined ? otherwise : Number(given);
  };
  const form = values.store ?? 'sentinels';
  if (form !== 'sentinels' && form !== 'cluster') throw new Error(`--store is ${form}: give sentinels or cluster`);
  return {
    seed: number('seed', 1),
    minutes: number('minutes', 10),
    form: form as 'sentinels' | 'cluster',
    mayLose: values.losses === true || form === 'cluster',
    entities: number('entities', 100),
    length: number('events', 100),
    totals: values.totals,
  };
}

/** The figures of a run, as a line of `--totals` has them. */
interface Figures {
  readonly counts: Readonly<Record<string, number>>;
  readonly kills: Readonly<Record<string, number>>;
  readonly seen: Readonly<Record<string, number>>;
  readonly problems: readonly string[];
}

function figuresOf({ account, tally, duplicates, deadLettered, recovered, problems }: Report): Figures {
  const counts = {
    'events published': account.published,
    'events applied': account.applied,
    'duplicates, at least': duplicates,
    'dead letters, at least; all but what is no event were replayed': deadLettered,
    'events recovered': recovered.events,
    'entities recovered': recovered.entities,
  };
  return { counts, kills: Object.fromEntries(tally.kills), seen: Object.fromEntries(tally.seen), problems };
}

function sumOf(runs: readonly Figures[]): Figures {
  const summed = (part: 'counts' | 'kills' | 'seen') => {
    const sums: Record<string, number> = {};
    for (const run of runs) for (const [what, count] of Object.entries(run[part])) sums[what] = (sums[what] ?? 0) + count;
    return sums;
  };
  const problems = runs.flatMap((run) => run.problems);
  return { counts: summed('counts'), kills: summed('kills'), seen: summed('seen'), problems };
}

function summary({ counts, kills, seen, problems }: Figures): string {
  return [
    ...Object.entries(counts).map(([what, count]) => `${shown(count).padStart(9)} ${what}`),
    faultLine(Object.entries(kills), Object.entries(seen)),
    ...(problems.length === 0 ? ['nothing lost, doubled or misordered'] : problems.map((problem) => `BROKEN: ${problem}`)),
    '',
  ].join('\n');
}

async function addToTotals(file: string, figures: Figures): Promise<string> {
  await appendFile(file, `${JSON.stringify(figures)}\n`);
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  return `\nall ${lines.length} runs of ${file}\n${summary(sumOf(lines.map((line) => JSON.parse(line) as Figures)))}`;
}

await runToItsEnd(async (owner) => {
  const { minutes, entities, length, totals, ...request } = requestOf(process.argv.slice(2));
  const startedMs = performance.now();
  const say = (line: string) => {
    const seconds = Math.round((performance.now() - startedMs) / 1_000);
    process.stdout.write(`${String(seconds).padStart(6)} s  ${line}\n`);
  };
  const losses = request.mayLose ? 'fail-overs may lose' : 'nothing may be lost';
  say(
    `seed ${request.seed}, ${minutes} minutes, Redis as ${request.form}, ${losses}, chunks of ${entities} entities with ${length} events`,
  );
  const sizes = { entities, length, backlog: 2 * entities * length, relay: !request.mayLose };
  const report = await runChaos(owner, { ...request, duration: { minutes }, pauseMs: [500, 5_000], sizes, say });
  const figures = figuresOf(report);
  process.stdout.write(summary(figures));
  if (totals !== undefined) process.stdout.write(await addToTotals(totals, figures));
  return report.problems;
});
