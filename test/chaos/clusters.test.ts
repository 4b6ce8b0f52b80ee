/**
 * One hand of the chaos on clusters (`npm run chaos` plays for as long as wanted): each kind of loss once, beside publishers, a relay and
 * replays, on three brokers and on Redis with sentinels.
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'node:test';
import { needsRedis } from '../support/sentinels.ts';
import { checkout, moduleUrl } from '../support/checkout.ts';
import { waitFor } from '../support/services.ts';
import { runChaos } from './clusters/chaos.ts';

const faults = [
  'a worker is killed',
  'an owner freezes and wakes up as a zombie',
  'a node is killed',
  'a node is cut off from the others',
  'a memory alarm',
  'the master is killed',
  'a fail-over is ordered',
  'publisher killed',
  'relay killed',
];

test(
  'brokers, masters, owners and publishers are lost one after the other, and every event is applied once and in order',
  needsRedis,
  async (t) => {
    const { account, tally, problems } = await runChaos(t, {
      seed: 1,
      form: 'sentinels',
      mayLose: false,
      duration: { faults },
      pauseMs: [0, 1_000],
      sizes: { entities: 40, length: 25, backlog: 1_000, relay: true },
      say: (line) => t.diagnostic(line),
    });
    assert.deepEqual(problems, []);
    assert.ok(account.published > 0);
    assert.deepEqual([account.applied, account.behind.size], [account.published, 0]);
    for (const what of ['worker', 'RabbitMQ node', 'Redis node']) assert.ok(tally.kills.has(what), what);
    assert.deepEqual([tally.of('alarms'), tally.of('partitions')], [1, 1]);
    assert.ok(tally.of('fail-overs') >= 2);
  },
);

test('a chaos that is ended by a signal takes all its brokers, stores, workers and clients with it', needsRedis, async (t) => {
  const module = fileURLToPath(moduleUrl('test/chaos/clusters/run.ts'));
  const loader = module.endsWith('.ts') ? ['--import', 'tsx'] : [];
  const args = [...loader, module, '--minutes', '60', '--entities', '40', '--events', '25'];
  const chaos = spawn(process.execPath, args, { cwd: checkout, stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => chaos.kill('SIGKILL'));
  let said = '';
  chaos.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const isUnderWay = async () => {
    if (chaos.exitCode !== null) throw new Error(`it ended:\n${said}`);
    return said.includes('clients:') && (await descendantsOf(chaos.pid!)).some(({ command }) => command.includes(' publish '));
  };
  await waitFor(isUnderWay, { what: 'a publisher', timeoutMs: 600_000 });
  const began = await descendantsOf(chaos.pid!);
  for (const word of ['beam', 'redis-server', ' worker', ' relay'])
    assert.ok(
      began.some(({ command }) => command.includes(word)),
      word,
    );
  chaos.kill('SIGTERM');
  assert.deepEqual(await once(chaos, 'exit'), [143, null]);
  const left = async () =>
    (await processes()).filter(({ pid, command }) => began.some((one) => one.pid === pid && one.command === command));
  await waitFor(async () => (await left()).length === 0, { what: 'the end of what it had begun', timeoutMs: 60_000 });
});

interface ProcessSeen {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

async function processes(): Promise<ProcessSeen[]> {
  const { stdout } = await promisify(execFile)('ps', ['-ww', '-eo', 'pid=,ppid=,args='], { maxBuffer: 2 ** 26 });
  return [...stdout.matchAll(/^ *(\d+) +(\d+) (.*)$/gm)].map(([, pid, parent, command]) => ({
    pid: Number(pid),
    parent: Number(parent),
    command: command!,
  }));
}

async function descendantsOf(pid: number): Promise<ProcessSeen[]> {
  const all = await processes();
  const below = (parent: number): ProcessSeen[] => all.filter((one) => one.parent === parent).flatMap((one) => [one, ...below(one.pid)]);
  return below(pid);
}
