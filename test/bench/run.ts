/**
 * How fast is Inorder? Beside a raw consumer that only acknowledges (the limit of client and broker) and the recipe's
 * literal pipeline, on the same queues and the same events, which wait there before the clock starts. The contenders take
 * turns in every round, so that a slow minute of the machine meets all of them; medians count.
 *
 *   npm run bench -- [--events N] [--recipe-events N] [--rounds N] [--only raw|inorder|recipe|recipe-per-shard] [--json] [--cpu-prof DIR]
 *
 * The recipe gets fewer events, because it is compared by its rate and would otherwise take most of the time.
 * Exit code 1 when a goal is missed.
 */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Redis } from 'ioredis';
import { startServices } from '../../deploy/local/services.ts';
import { type ContenderName, runBaseline, runInorder } from './contenders.ts';
import { goals, render, type Results, summarize } from './results.ts';
import { ShardQueues } from './shard-queues.ts';
import type { Measurement, Task } from './task.ts';

const shards = 8;
const prefetch = 1_000;
const contenders: readonly ContenderName[] = ['raw', 'inorder', 'recipe', 'recipe-per-shard'];

interface Plan {
  readonly events: number;
  readonly recipeEvents: number;
  readonly rounds: number;
  readonly only: readonly ContenderName[];
  readonly json: boolean;
  readonly nodeFlags: readonly string[];
}

function readPlan(args: string[]): Plan {
  const { values } = parseArgs({
    args,
    options: {
      events: { type: 'string', default: '200000' },
      'recipe-events': { type: 'string' },
      rounds: { type: 'string', default: '3' },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
      'cpu-prof': { type: 'string' },
    },
  });
  const events = wholeNumber('--events', values.events);
  const only = contenders.filter((name) => values.only === undefined || values.only === name);
  if (only.length === 0) throw new Error(`--only is ${values.only}: it must be one of ${contenders.join(', ')}`);
  return {
    events,
    recipeEvents: Math.min(events, wholeNumber('--recipe-events', values['recipe-events'] ?? String(Math.ceil(events / 10)))),
    rounds: wholeNumber('--rounds', values.rounds),
    only,
    json: values.json,
    nodeFlags: values['cpu-prof'] === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values['cpu-prof']}`],
  };
}

function wholeNumber(flag: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${flag} is ${text}: it must be a whole number from 1 up`);
  return value;
}

async function measureAll(
  plan: Plan,
  queues: ShardQueues,
  services: { amqpUrl: string; redisUrl: string },
  stream: string,
): Promise<Results> {
  const results: Record<ContenderName, Measurement[]> = { raw: [], inorder: [], recipe: [], 'recipe-per-shard': [] };
  for (let round = 1; round <= plan.rounds; round++) {
    for (const contender of plan.only) {
      const events = contender.startsWith('recipe') ? plan.recipeEvents : plan.events;
      say(`round ${round} of ${plan.rounds}: ${contender}, filling the queues with ${events} events`);
      await queues.fill({ round: `${round}-${contender}`, events });
      const task: Task = {
        ...services,
        queues: queues.names,
        events,
        prefetch,
        parallel: contender === 'recipe-per-shard',
        keyPrefix: `${stream}:${contender}`,
      };
      const measured =
        contender === 'inorder' ? await runInorder(task, { stream, nodeFlags: plan.nodeFlags }) : await runBaseline(contender, task);
      await queues.empty();
      results[contender].push(measured);
      say(`round ${round} of ${plan.rounds}: ${contender}, ${Math.round((events * 1_000) / measured.durationMs)} events/s`);
    }
  }
  return results;
}

/** Every key of the stream, also on a server that was there before. */
async function removeKeys(redisUrl: string, stream: string): Promise<void> {
  const redis = new Redis(redisUrl);
  for await (const keys of redis.scanStream({ match: `*${stream}*`, count: 1_000 })) {
    if ((keys as string[]).length > 0) await redis.unlink(...(keys as string[]));
  }
  await redis.quit();
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function main(): Promise<number> {
  const plan = readPlan(process.argv.slice(2));
  const services = await startServices({ log: say });
  const stream = `bench-${randomBytes(4).toString('hex')}`;
  const { amqpUrl, redisUrl } = services;
  try {
    const queues = await ShardQueues.declare(amqpUrl, stream, shards);
    try {
      const results = await measureAll(plan, queues, { amqpUrl, redisUrl }, stream);
      const summary = summarize(results);
      process.stdout.write(plan.json ? `${JSON.stringify({ ...summary, results })}\n` : `\n${render(results)}`);
      const missed = summary.timesRecipe < goals.timesRecipe || summary.shareOfRaw < goals.shareOfRaw;
      return missed ? 1 : 0;
    } finally {
      await queues.remove();
      if (services.source === 'given') await removeKeys(redisUrl, stream);
    }
  } finally {
    await services.stop();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
