/**
 * Makes a fresh clone runnable, then runs what was asked for, in this same process:
 *
 *   node deploy/local/bootstrap.mjs build               builds, always
 *   node deploy/local/bootstrap.mjs demo [arguments]    inorder demo
 *   node deploy/local/bootstrap.mjs test [files]        every test, with services   (unit: those that need none)
 *   node deploy/local/bootstrap.mjs bench [arguments]   the benchmark
 *   node deploy/local/bootstrap.mjs simulate [options]  the simulation, for as many seeds as wanted
 *   node deploy/local/bootstrap.mjs fuzz [options]      what reads foreign input, given as much of it as wanted
 *   node deploy/local/bootstrap.mjs chaos [options]     faults in clusters of brokers and stores, for as long as wanted
 *   node deploy/local/bootstrap.mjs soak [options]      load for as long as wanted, or an overload
 *   node deploy/local/bootstrap.mjs mutants [word]      planted defects, which the simulation has to find; nothing is built for it
 *   node deploy/local/bootstrap.mjs dev [arguments]     a worker that restarts when a source changes; nothing is built for it
 *   node deploy/local/bootstrap.mjs lint [arguments]    the linter; nothing is built for it either
 *   node deploy/local/bootstrap.mjs sbom                what an installation consists of
 *
 * It needs nothing but Node: it installs the locked dependencies where they are missing or others, and compiles where the
 * build is missing or older than the sources. Only when that is done is code of the project loaded.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const checkout = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const buildFolder = join(checkout, 'build');
const sourceFolders = ['src', 'test', join('deploy', 'local'), join('deploy', 'demo'), 'tsconfig.json', 'package.json'];
const asset = /\.(lua|sql|html|css|svg|js|d\.ts)$/;
const oldestNode = [20, 12];
const parentPollMs = 500;

const programs = {
  demo: { file: 'src/main.js', args: ['demo'] },
  test: { file: 'test/support/run-tests.js', args: ['all'] },
  unit: { file: 'test/support/run-tests.js', args: ['unit'] },
  bench: { file: 'test/bench/run.js', args: [] },
  simulate: { file: 'test/simulation/run.js', args: [] },
  fuzz: { file: 'test/property/fuzz.js', args: [] },
  chaos: { file: 'test/chaos/clusters/run.js', args: [] },
  soak: { file: 'test/bench/soak.js', args: [] },
};
/** What runs on the sources as they are. */
const unbuilt = {
  dev: { file: 'deploy/local/dev.ts', args: [] },
  sbom: { file: 'deploy/local/sbom.ts', args: [] },
  mutants: { file: 'test/simulation/mutants.ts', args: [] },
  lint: { file: 'node_modules/@biomejs/biome/bin/biome', args: ['check', '--error-on-warnings'] },
};

class BootstrapError extends Error {}

function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const [oldestMajor, oldestMinor] = oldestNode;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new BootstrapError(`Inorder needs Node ${oldestNode.join('.')} or later; this is ${process.versions.node}`);
}

/** Whether node_modules holds every version that package-lock.json names (optional ones depend on the platform). */
function dependenciesAreInstalled() {
  const installed = readJson(join(checkout, 'node_modules', '.package-lock.json'))?.packages;
  if (installed === undefined) return false;
  return Object.entries(readJson(join(checkout, 'package-lock.json')).packages).every(
    ([path, wanted]) => path === '' || wanted.optional || installed[path]?.version === wanted.version,
  );
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

function installDependencies() {
  process.stderr.write('installing dependencies (npm ci), once\n');
  // npm's own path when npm started us; the PATH otherwise.
  const npm = process.env.npm_execpath?.endsWith('.js') ? [process.execPath, process.env.npm_execpath] : ['npm'];
  run([...npm, 'ci', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci failed');
}

function run([command, ...args], failure) {
  const { status, error } = spawnSync(command, args, { cwd: checkout, stdio: ['ignore', 2, 2] });
  if (error !== undefined) throw new BootstrapError(`${failure}: ${error.message}`);
  if (status !== 0) throw new BootstrapError(failure);
}

function buildIsCurrent() {
  if (!existsSync(buildFolder)) return false;
  const built = statSync(buildFolder).mtimeMs;
  return sourceFolders.every((source) => newestChange(join(checkout, source)) <= built);
}

/** Directories count too: removing a file changes only them. */
function newestChange(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(path).reduce((newest, name) => Math.max(newest, newestChange(join(path, name))), stat.mtimeMs);
}

/** Compiles beside the present build and then takes its place, so that a failure leaves the old one as it was. */
function build() {
  const fresh = join(checkout, `build.${process.pid}`);
  const startedAt = new Date();
  process.stderr.write('building\n');
  try {
    mkdirSync(fresh);
    const compiler = join(checkout, 'node_modules', 'typescript', 'bin', 'tsc');
    run([process.execPath, compiler, '-p', checkout, '--outDir', fresh], 'the build failed');
    copyAssets(join(checkout, 'src'), fresh);
    // What was edited while the compiler ran counts as newer than the build.
    utimesSync(fresh, startedAt, startedAt);
    rmSync(buildFolder, { recursive: true, force: true });
    renameSync(fresh, buildFolder);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/**
 * The compiler leaves behind what it does not make: scripts of the stores and the console's page, which are loaded as they are, and
 * declarations that are written by hand.
 */
function copyAssets(directory, fresh) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) copyAssets(path, fresh);
    else if (asset.test(entry.name)) cpSync(path, join(fresh, relative(checkout, path)));
  }
}

/**
 * npm starts us through a shell that does not pass SIGTERM on: whoever ends `npm test` ends npm and that shell. Their end
 * is noticed here and becomes the signal that was meant.
 */
function endWithNpm() {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, parentPollMs);
  watch.unref();
}

async function main([name = '', ...args]) {
  if (name !== 'build' && !Object.hasOwn(unbuilt, name) && !Object.hasOwn(programs, name)) {
    throw new BootstrapError(`usage: bootstrap.mjs build | ${Object.keys({ ...programs, ...unbuilt }).join(' | ')} [arguments]`);
  }
  requireNode();
  if (!dependenciesAreInstalled()) installDependencies();
  if (Object.hasOwn(unbuilt, name)) return start(checkout, unbuilt[name], args);
  if (name === 'build' || !buildIsCurrent()) build();
  if (name !== 'build') await start(buildFolder, programs[name], args);
}

async function start(folder, program, args) {
  endWithNpm();
  const file = join(folder, program.file);
  if (file.endsWith('.ts')) (await import('tsx/esm/api')).register();
  // As if it had been started by itself: no process between it and the terminal that would have to pass signals on.
  process.argv = [process.execPath, file, ...program.args, ...args];
  await import(pathToFileURL(file).href);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
