/** What `npm publish` would publish: packed from a copy of the checkout, installed in an empty project, and used there. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { freePort } from '../../deploy/local/free-port.ts';
import { removeStream } from '../../deploy/local/stream-removal.ts';
import { checkout } from '../support/checkout.ts';
import { Reader, useReadersStream } from '../support/readme-reader.ts';
import { examplesOf, linksOf, readmes, readReadme } from '../support/readme.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';

/** What the build of a package is made from. */
const packed = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'src',
  'deploy',
  'test/README.md',
];
const compiler = join(checkout, 'node_modules', 'typescript', 'bin', 'tsc');
const noRegistry = /\b(ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH)\b/;

const work = mkdtempSync(join(tmpdir(), 'inorder-package-'));
const project = join(work, 'project');
const installed = join(project, 'node_modules', 'inorder');

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Without what npm tells the scripts that it runs: this npm is to look for itself. */
function environment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(npm_(lifecycle|package|command|config_local_prefix)|INIT_CWD)/.test(name),
  );
  return { ...Object.fromEntries(inherited), ...more };
}

function run(command: string, args: readonly string[], cwd: string, env = environment()): Promise<Result> {
  return new Promise((resolve) => {
    execFile(command, args, { cwd, env, maxBuffer: 64 * 1_048_576 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
    });
  });
}

function npm(args: readonly string[], cwd: string, env?: NodeJS.ProcessEnv): Promise<Result> {
  const script = process.env.npm_execpath;
  return script?.endsWith('.js') ? run(process.execPath, [script, ...args], cwd, env) : run('npm', args, cwd, env);
}

/** `npx inorder …` in the project, which has no other way to it than what is installed there. */
function inorder(words: readonly string[], variables: Readonly<Record<string, string>> = {}): Promise<Result> {
  return npm(['exec', '--offline', '--', 'inorder', ...words], project, environment(variables));
}

/** Null when all is installed, otherwise why that is not possible here. */
async function install(): Promise<string | null> {
  const copy = join(work, 'checkout');
  mkdirSync(copy);
  for (const name of packed) cpSync(join(checkout, name), join(copy, name), { recursive: true });
  // One by one: if they differ from package-lock.json the build reinstalls them, and would empty the folder behind a link to all.
  mkdirSync(join(copy, 'node_modules'));
  for (const name of readdirSync(join(checkout, 'node_modules')))
    symlinkSync(join(checkout, 'node_modules', name), join(copy, 'node_modules', name));
  const pack = await npm(['pack', '--pack-destination', work], copy);
  assert.equal(pack.code, 0, pack.stderr);
  const tarball = readdirSync(work).find((name) => name.endsWith('.tgz'));
  assert.ok(tarball, pack.stdout);
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }));
  const { code, stderr } = await npm(['install', '--prefer-offline', '--no-audit', '--no-fund', join(work, tarball)], project);
  if (code !== 0 && noRegistry.test(stderr)) return 'the registry, from which the dependencies come, cannot be reached';
  assert.equal(code, 0, stderr);
  return null;
}

function filesOf(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8', withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}

describe('the package', () => {
  let impossible: string | null = null;
  before(async () => {
    impossible = await install();
  });
  after(() => rmSync(work, { recursive: true, force: true }));

  const check = (name: string, body: (t: TestContext) => Promise<void> | void) =>
    it(name, async (t) => {
      if (impossible === null) await body(t);
      else t.skip(impossible);
    });

  check('holds what runs and what tells about it: no tests, no sources, no maps, no demo', () => {
    const files = filesOf(installed);
    const expected =
      /^(package\.json|((src\/([\w-]+\/)?|deploy\/((prometheus|permissions)\/)?|test\/)?README|CHANGELOG|CONTRIBUTING)\.md|LICENSE|build\/src\/.+\.(js|d\.ts|lua|sql)|build\/src\/console\/page\/[\w-]+\.(html|css|svg)|deploy\/(prometheus|grafana|kubernetes|systemd)\/[\w/.@-]+\.(yml|yaml|json|service)|deploy\/permissions\/events\.sh)$/;
    assert.deepEqual(
      files.filter((file) => !expected.test(file)),
      [],
    );
    const scripts = filesOf(join(checkout, 'src')).filter((file) => /\.(lua|sql)$/.test(file));
    const page = filesOf(join(checkout, 'src')).filter((file) => /^console\/page\/[^/]+\.(html|css|svg|js)$/.test(file));
    assert.ok(scripts.length > 0 && page.length > 20);
    assert.deepEqual(
      [...scripts, ...page].filter((asset) => !files.includes(`build/src/${asset}`)),
      [],
    );
  });

  check('has every file to which its documentation links', () => {
    const pages = filesOf(installed).filter((file) => file.endsWith('.md'));
    assert.ok(readmes.every((path) => pages.includes(path)));
    const links = pages.flatMap((page) => linksOf(page, readFileSync(join(installed, page), 'utf8')).map(([file]) => `${page}: ${file}`));
    assert.deepEqual(
      links.filter((link) => !existsSync(join(installed, link.split(': ')[1] ?? ''))),
      [],
    );
  });

  check("works in an empty folder as Getting started says, with a processor of one's own", async (t) => {
    const [, gettingStarted = ''] = /^## Getting started\n([\s\S]*?)^## /m.exec(readReadme()) ?? [];
    const commands = examplesOf(gettingStarted).map(({ command }) => command);
    const folder = join(work, 'accounts');
    assert.ok(commands.includes('mkdir ../accounts && cd ../accounts') && commands.includes('npm pack --pack-destination ..'));
    mkdirSync(folder);
    for (const command of commands.filter((one) => /^npm (init|install) /.test(one))) {
      const { code, stderr } = await npm([...command.split(' ').slice(1), '--prefer-offline', '--no-audit', '--no-fund'], folder);
      assert.equal(code, 0, `${command}\n${stderr}`);
    }
    const launcher = { program: [join(folder, 'node_modules', '.bin', 'inorder')] as const, folder };
    const reader = new Reader(t, { launcher, ...(await useReadersStream(t)) });
    await reader.follow(gettingStarted);
    await reader.worker.kill();
  });

  check('has declarations that refer to nothing outside of it but its dependencies', () => {
    const { dependencies } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as { dependencies: Record<string, string> };
    const declarations = filesOf(installed).filter((file) => file.endsWith('.d.ts'));
    const missing = declarations.flatMap((file) => {
      const text = readFileSync(join(installed, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\//g, '');
      const modules = [...text.matchAll(/(?:\bfrom |\bimport\()'([^']+)'/g)].map(([, module = '']) => module);
      return modules.filter((module) => {
        if (module.startsWith('.')) return !existsSync(join(installed, dirname(file), module.replace(/(?<!\.d)\.ts$/, '.d.ts')));
        return !module.startsWith('node:') && !Object.hasOwn(dependencies, module);
      });
    });
    assert.ok(declarations.length > 50);
    assert.deepEqual(missing, []);
  });

  check('does not need what only its development needs', () => {
    const { devDependencies } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as {
      devDependencies: Record<string, string>;
    };
    assert.deepEqual(
      Object.keys(devDependencies).filter((name) => existsSync(join(project, 'node_modules', name))),
      [],
    );
  });

  check('brings the command', async () => {
    const help = await inorder(['--help']);
    assert.equal(help.code, 0, help.stderr);
    assert.match(help.stdout, /^Usage: inorder COMMAND/m);
    const { version } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8')) as { version: string };
    assert.equal((await inorder(['--version'])).stdout, `${version}\n`);
    for (const command of ['worker', 'publish', 'demo']) {
      const { code, stdout } = await inorder([command, '--help']);
      assert.equal(code, 0, command);
      assert.match(stdout, new RegExp(`^Usage: inorder ${command}`));
    }
  });

  check('has types that a strict program compiles against, also the declarations themselves', async () => {
    writeFileSync(
      join(project, 'typed.ts'),
      `import { createWorker, defineAggregate, type Worker } from 'inorder';
const counter = defineAggregate({
  type: 'counter',
  initialState: { count: 0 },
  evolve: { Counted: (state) => ({ count: state.count + 1 }) },
});
export const start = (): Worker => createWorker({ processors: [counter] });
// @ts-expect-error: the state has a number
defineAggregate({ type: 'counter', initialState: { count: 0 }, evolve: { Counted: () => ({ count: 'many' }) } });
`,
    );
    const compilerOptions = {
      strict: true,
      module: 'nodenext',
      target: 'es2023',
      noEmit: true,
      skipLibCheck: false,
      types: ['node'],
      typeRoots: [join(checkout, 'node_modules', '@types')],
    };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['typed.ts'] }));
    const { stdout } = await run(process.execPath, [compiler, '-p', project], project);
    assert.equal(stdout, '');
  });

  check('processes an event in a program of its own, from publisher to store', async () => {
    const { amqpUrl, redisUrl } = await useServices();
    const stream = uniqueStream('package');
    const variables = { AMQP_URL: amqpUrl, REDIS_URL: redisUrl, STREAM: stream, SHARDS: '1', HTTP_PORT: '0', LOG_LEVEL: 'error' };
    writeFileSync(
      join(project, 'program.js'),
      `import { createPublisher, createWorker, defineAggregate } from 'inorder';
const counter = defineAggregate({ type: 'counter', initialState: { count: 0 }, evolve: { Counted: ({ count }) => ({ count: count + 1 }) } });
const worker = createWorker({ processors: [counter] });
process.once('SIGTERM', () => worker.stop());
await worker.start();
const publisher = createPublisher({ urls: [process.env.AMQP_URL], stream: process.env.STREAM });
const outcome = await publisher.publish({ entityType: 'counter', entityId: 'c', sequence: 1, type: 'Counted' });
console.log(outcome.status);
await publisher.close();
`,
    );
    const program = spawn(process.execPath, ['program.js'], { cwd: project, env: environment(variables) });
    let output = '';
    for (const out of [program.stdout, program.stderr]) out.setEncoding('utf8').on('data', (text: string) => void (output += text));
    const exited = once(program, 'exit');
    try {
      const show = async () => {
        assert.equal(program.exitCode, null, output);
        const { code, stdout } = await inorder(['entity', 'show', 'c', '--type', 'counter', '--json'], variables);
        return code === 0 ? stdout : null;
      };
      const shown = await waitFor(show, { what: 'the event applied', timeoutMs: 60_000 });
      assert.equal(shown, '{"entity_type":"counter","entity_id":"c","version":1,"state":{"count":1},"parked":null,"held":null}\n');
      await waitFor(() => output.includes('confirmed\n'), { what: 'the confirm' });
      program.kill('SIGTERM');
      assert.deepEqual(await exited, [0, null], output);
    } finally {
      program.kill('SIGKILL');
      await removeStream({ amqpUrl, redisUrl }, stream, 1);
    }
  });

  check('serves the console, with the libraries of its page', async () => {
    const port = await freePort();
    const server = spawn(process.execPath, [join(installed, 'build', 'src', 'main.js'), 'console'], {
      cwd: project,
      env: environment({ HTTP_PORT: String(port), STREAM: 'none', LOG_LEVEL: 'error' }),
    });
    try {
      const ask = (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
      const index = await waitFor(() => ask('/').catch(() => null), { what: 'the console', timeoutMs: 30_000 });
      assert.match(await index.text(), /console\/main\.js/);
      for (const file of ['main.js', 'console.css', 'vendor/preact.js', 'vendor/htm.js'])
        assert.equal((await ask(`/console/${file}`)).status, 200, file);
    } finally {
      server.kill('SIGKILL');
    }
  });

  check('holds no demo: the command says in one line where there is one, and does nothing', async () => {
    for (const words of [['demo'], ['demo', '--orders', '20'], ['demo', '--traffic', '5']])
      assert.deepEqual(await inorder(words, { AMQP_URL: 'amqp://127.0.0.1:1', REDIS_URL: 'redis://127.0.0.1:1' }), {
        code: 2,
        stdout: '',
        stderr: 'inorder: the demo is not in the npm package: clone the repository and run `npm run demo` there\n',
      });
  });
});
