/** The workflows of the hosted CI: right by GitHub's own schema, and naming what is there. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import test from 'node:test';
import { tsImport } from 'tsx/esm/api';
import { parse } from 'yaml';
import { checkout } from '../support/checkout.ts';

/** It imports JSON in a way that Node.js itself refuses from version 20 on. */
const { convertWorkflowTemplate, NoOperationTraceWriter, parseWorkflow } = (await tsImport(
  '@actions/workflow-parser',
  import.meta.url,
)) as typeof import('@actions/workflow-parser');

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly env?: Readonly<Record<string, string>>;
}

interface Job {
  readonly uses?: string;
  readonly needs?: string;
  readonly permissions?: Readonly<Record<string, string>>;
  readonly 'timeout-minutes'?: number;
  readonly strategy?: { readonly matrix: Readonly<Record<string, readonly string[]>> };
  readonly services?: Readonly<Record<string, { readonly image: string }>>;
  /** None for a job that is another workflow. */
  readonly steps?: readonly Step[];
}

interface Workflow {
  readonly on: Readonly<Record<string, unknown>>;
  readonly permissions: unknown;
  readonly jobs: Readonly<Record<string, Job>>;
}

const folder = `${checkout}.github/workflows/`;
const texts = Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(folder + name, 'utf8')]));
const workflows = Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, parse(text) as Workflow]));
const jobs = Object.values(workflows).flatMap((workflow) => Object.values(workflow.jobs));
const { steps: suiteSteps = [], ...versions } = workflows['versions.yml']!.jobs['suites']!;
const release = workflows['release.yml']!;

/** What GitHub would refuse the workflow for. */
async function problemsOf(name: string, content: string): Promise<readonly string[]> {
  const { context, value } = parseWorkflow({ name, content }, new NoOperationTraceWriter());
  if (value !== undefined) await convertWorkflowTemplate(context, value);
  return context.errors.getErrors().map(({ message }) => message);
}

test('every workflow is right by the schema of GitHub', async () => {
  for (const [name, text] of Object.entries(texts)) assert.deepEqual(await problemsOf(name, text), [], name);
});

test('a key that GitHub does not know, and a context that it does not have there, are found', async () => {
  const text = texts['versions.yml']!;
  assert.match((await problemsOf('x.yml', text.replace('fail-fast:', 'fail-slow:'))).join(), /Unexpected value 'fail-slow'/);
  assert.match((await problemsOf('x.yml', text.replace('${{ matrix.node }}', '${{ matrixes.node }}'))).join(), /matrixes/);
});

test('CI runs on every push to main and on every pull request; every workflow may only read by itself, and every job ends in time', () => {
  for (const [name, { on, permissions, jobs: own }] of Object.entries(workflows)) {
    if (name !== 'release.yml') assert.ok(Object.hasOwn(on, 'push') && Object.hasOwn(on, 'pull_request'), name);
    assert.deepEqual(permissions, { contents: 'read' }, name);
    for (const { uses, 'timeout-minutes': minutes } of Object.values(own))
      assert.ok(uses !== undefined || (minutes ?? Infinity) <= 120, name);
  }
});

test('a release is a tag that has passed CI: package and image with their provenance, and no token that is kept', () => {
  assert.deepEqual(release.on, { push: { tags: ['v*'] } });
  const { ci, publish } = release.jobs as { ci: Job; publish: Job };
  assert.equal(ci.uses, './.github/workflows/ci.yml');
  assert.ok(Object.hasOwn(workflows['ci.yml']!.on, 'workflow_call'));
  assert.equal(publish.needs, 'ci');
  assert.deepEqual(publish.permissions, { contents: 'write', packages: 'write', 'id-token': 'write', attestations: 'write' });
  const text = texts['release.yml']!;
  for (const said of ['npm publish --provenance', '--provenance=mode=max --sbom=true', 'npm run -s sbom > sbom.cdx.json'])
    assert.ok(text.includes(said), said);
  assert.doesNotMatch(text, /secrets\./);
});

test('every action is of GitHub itself, at a version', () => {
  const used = jobs.flatMap(({ steps = [] }) => steps.flatMap(({ uses }) => uses ?? []));
  assert.ok(used.length >= 8);
  assert.deepEqual(
    used.filter((action) => !/^actions\/[\w-]+@v\d+/.test(action)),
    [],
  );
});

test('what they run is there: .ci/run, which can be executed, the scripts of npm and the suites', () => {
  const commands = jobs.flatMap(({ steps = [] }) => steps.flatMap(({ run }) => run?.split('\n') ?? []));
  assert.ok(commands.includes('.ci/run'));
  assert.ok((statSync(`${checkout}.ci/run`).mode & 0o111) !== 0);
  const { scripts } = JSON.parse(readFileSync(`${checkout}package.json`, 'utf8')) as { scripts: Record<string, string> };
  const called = [...commands, ...readFileSync(`${checkout}.ci/run`, 'utf8').split('\n')].flatMap((command) => {
    const [, script = /^npm test\b/.test(command) ? 'test' : null] = /^npm run (?:-s )?(\S+)/.exec(command) ?? [];
    return script === null ? [] : [script];
  });
  assert.ok(called.length >= 4);
  assert.deepEqual(
    called.filter((script) => !Object.hasOwn(scripts, script)),
    [],
  );
  const suites = commands.flatMap((command) => /test\/\{([\w,]+)\}/.exec(command)?.[1]?.split(',') ?? []);
  assert.deepEqual(suites, ['unit', 'integration', 'conformance']);
  assert.deepEqual(
    suites.filter((suite) => !existsSync(`${checkout}test/${suite}`)),
    [],
  );
});

test('the suites run against each broker, store and Node that is said to do, which the tests are told of', () => {
  const { matrix } = versions.strategy!;
  assert.deepEqual(matrix, { rabbitmq: ['3.13', '4'], redis: ['7', '8'], node: ['20', '22', '24'] });
  const images = Object.values(versions.services!).map(({ image }) => image);
  assert.deepEqual(images, ['rabbitmq:${{ matrix.rabbitmq }}-management', 'redis:${{ matrix.redis }}']);
  const tests = suiteSteps.find(({ run }) => run?.startsWith('npm test'));
  assert.deepEqual(Object.keys(tests?.env ?? {}), ['AMQP_URL', 'MANAGEMENT_URL', 'REDIS_URL']);
  const { engines } = JSON.parse(readFileSync(`${checkout}package.json`, 'utf8')) as { engines: { node: string } };
  assert.equal(/>=(\d+)/.exec(engines.node)?.[1], matrix['node']?.[0], 'the oldest Node is the one that the package asks for');
});

test('the broker of the suites has every plugin that Inorder needs', () => {
  const needed = /\[(.*)\]/.exec(readFileSync(`${checkout}deploy/local/enabled_plugins`, 'utf8'))?.[1]?.split(',') ?? [];
  const enabled = suiteSteps.flatMap(({ run }) => /rabbitmq-plugins enable (.+)$/m.exec(run ?? '')?.[1]?.split(' ') ?? []);
  const inImage = ['rabbitmq_management', 'rabbitmq_prometheus'];
  assert.deepEqual(
    needed.filter((plugin) => !enabled.includes(plugin)),
    inImage,
  );
});
