/**
 * `npm run dev`: a worker that restarts whenever a source changes, with a broker and a store brought up as the demo does.
 *
 *   dev.ts [command and its arguments]      default: worker; `console`, for one, does as well
 *
 * It runs the sources as they are, so there is nothing to build. The watcher and what it starts live in a session of their own:
 * Ctrl-C reaches this process alone, which passes it on once, so that the worker gives back what it holds and ends in order.
 * The services end after it; those that were given stay.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { guard } from './guarded-process.ts';
import { createPrivateDirectory, removePrivateDirectory } from './private-directory.ts';
import { type Services, startServices } from './services.ts';

const checkout = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const tsx = join(checkout, 'node_modules', 'tsx', 'dist', 'cli.mjs');
/** What is read at the start and not imported. */
const assets = ['src/**/*.lua', 'src/**/*.sql', 'src/console/page/*'];
/** The watcher waits 5 s for the end of a worker before it kills it. */
const shutdownTimeoutMs = '4000';

const say = (line: string): void => void process.stderr.write(`${line}\n`);

function environment({ amqpUrl, redisUrl, managementUrl }: Services): NodeJS.ProcessEnv {
  const management = managementUrl === null ? {} : { MANAGEMENT_URL: managementUrl };
  return { shutdownTimeoutMs, ...process.env, AMQP_URL: amqpUrl, REDIS_URL: redisUrl, ...management };
}

/** For another terminal. What was given is known there, and may hold a secret that is not ours to print. */
function announce({ source, amqpUrl, redisUrl, managementUrl }: Services): void {
  if (source === 'given') return;
  say(`for other terminals: export AMQP_URL=${amqpUrl} REDIS_URL=${redisUrl} MANAGEMENT_URL=${managementUrl ?? ''}`);
}

/** Resolves with the exit code of the last run. */
async function watch(words: readonly string[], services: Services, stop: AbortSignal): Promise<number> {
  const directory = await createPrivateDirectory('dev');
  const flags = ['watch', '--clear-screen=false', ...assets.map((asset) => `--include=${asset}`)];
  const child = spawn(process.execPath, [tsx, ...flags, 'src/main.ts', ...words], {
    cwd: checkout,
    env: environment(services),
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const exited = once(child, 'exit');
  // However this process ends: neither the watcher nor a worker outlives it.
  const release = guard(child.pid ?? 0, directory);
  const end = (): void => void child.kill('SIGTERM');
  stop.addEventListener('abort', end);
  if (stop.aborted) end();
  try {
    const [code] = (await exited) as [number | null];
    return code ?? 1;
  } finally {
    release();
    await removePrivateDirectory(directory);
  }
}

const words = process.argv.slice(2);
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort());
try {
  const services = await startServices({ log: say });
  try {
    announce(services);
    if (!stop.signal.aborted) process.exitCode = await watch(words.length > 0 ? words : ['worker'], services, stop.signal);
  } finally {
    await services.stop();
  }
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
