/**
 * Runs the compiled tests: `all` brings up RabbitMQ and Redis once for the whole run, `unit` needs none.
 *
 *   run-tests.js all|unit [--verbose] [files]      files as test/….test.ts, or compiled
 *
 * The tests find the services in AMQP_URL, REDIS_URL and MANAGEMENT_URL. They run in a process group and with a temporary
 * directory of their own; at the end, however it comes, that group is killed, the directory removed and the
 * services are stopped. The exit code is the test runner's, or 130 and 143 after SIGINT and SIGTERM.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { guard } from '../../deploy/local/guarded-process.ts';
import { createPrivateDirectory, removePrivateDirectory } from '../../deploy/local/private-directory.ts';
import { startServices, type Services } from '../../deploy/local/services.ts';
import { installPostgres } from './postgres.ts';
import { leastTimeoutMs } from './services.ts';

const compiledTests = dirname(dirname(fileURLToPath(import.meta.url)));
const project = resolve(compiledTests, '..', '..');
/** They need no services, and some seconds. */
const quickFolders = ['unit', 'property'];
const testFolders = [...quickFolders, 'simulation', 'conformance', 'integration', 'chaos', 'deploy'];
/** More than there are processors usually: most of them wait for a broker, a store or a clock most of the time. */
const filesAtOnce = 3;
/** No test takes this long; one that hangs must not hang the run. */
const testTimeoutMs = 900_000;
const signalNumbers = { SIGINT: 2, SIGTERM: 15 } as const;

type Interruption = keyof typeof signalNumbers;

function testFilesBelow(folder: string): string[] {
  return readdirSync(join(compiledTests, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .sort()
    .map((name) => join(compiledTests, folder, name));
}

function existingFolders(): Set<string> {
  const entries = readdirSync(compiledTests, { withFileTypes: true });
  return new Set(entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name));
}

/** `test/unit/heap.test.ts`, as written by a person, becomes the compiled file. */
function compiledFile(file: string): string {
  const path = resolve(project, file);
  if (path.startsWith(compiledTests)) return path;
  return join(compiledTests, relative(join(project, 'test'), path).replace(/\.ts$/, '.js'));
}

function startTests(files: readonly string[], temporaryDirectory: string, services: Services | null): ChildProcess {
  const given = services === null ? {} : { AMQP_URL: services.amqpUrl, REDIS_URL: services.redisUrl };
  const management = services?.managementUrl == null ? {} : { MANAGEMENT_URL: services.managementUrl };
  const flags = [`--test-concurrency=${filesAtOnce}`, `--test-timeout=${testTimeoutMs}`, '--test-reporter=spec'];
  return spawn(process.execPath, ['--enable-source-maps', '--test', ...flags, ...files], {
    cwd: project,
    env: { ...process.env, ...given, ...management, TMPDIR: temporaryDirectory },
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
}

function exitCode(child: ChildProcess): Promise<number> {
  return new Promise((settle, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => settle(code ?? 1));
  });
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // Nobody is left in it.
  }
}

async function runTests(files: readonly string[], services: Services | null, interrupted: AbortSignal): Promise<number> {
  const directory = await createPrivateDirectory('run');
  const tests = startTests(files, directory, services);
  const release = guard(tests.pid ?? 0, directory);
  interrupted.addEventListener('abort', () => killGroup(tests));
  try {
    return await exitCode(tests);
  } finally {
    // Processes that a test started and forgot belong to its group.
    killGroup(tests);
    await removePrivateDirectory(directory);
    release();
  }
}

async function main(args: readonly string[]): Promise<number> {
  const [kind, ...rest] = args;
  const named = rest.filter((argument) => !argument.startsWith('--')).map(compiledFile);
  const present = existingFolders();
  const folders = (kind === 'unit' ? quickFolders : testFolders).filter((folder) => present.has(folder));
  const files = named.length > 0 ? named : folders.flatMap(testFilesBelow);

  const interruption = new AbortController();
  for (const signal of Object.keys(signalNumbers) as Interruption[]) {
    process.on(signal, () => interruption.abort(signal));
  }
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const explain = rest.includes('--verbose') ? say : undefined;
  const services = kind === 'unit' ? null : await startServices({ log: say, explain, startTimeoutMs: leastTimeoutMs });
  if (kind !== 'unit') await installPostgres(say);
  try {
    const code = interruption.signal.aborted ? 1 : await runTests(files, services, interruption.signal);
    return interruption.signal.aborted ? 128 + signalNumbers[interruption.signal.reason as Interruption] : code;
  } finally {
    await services?.stop();
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
