import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { commands } from '../../src/cli/commands.ts';
import { runCli } from '../../src/cli/run.ts';
import { keptIo } from '../support/command-io.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';

const variables = { GAP_TIMEOUT_MS: '300' };

async function useStream(t: TestContext, name: string, more: Record<string, string> = {}) {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables: { ...variables, ...more } });
  const command = async (words: string) => {
    const env = { AMQP_URL: run.amqpUrl, REDIS_URL: run.redisUrl, STREAM: run.stream };
    const { io, out } = keptIo({ env });
    return { code: await runCli({ commands, version: '0' }, words.split(' '), io), ...out };
  };
  const untilDeadLettered = (count: number) =>
    waitFor(async () => (await run.ready(run.deadLetters)) === count, { what: `${count} dead letters`, timeoutMs: 30_000 });
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  return { run, command, untilDeadLettered, trace };
}

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));

test('dead letters behind a gap go in order once the missing event has arrived, and the entity is whole again', async (t) => {
  const { run, command, untilDeadLettered, trace } = await useStream(t, 'replay');
  await run.worker();
  await run.publish([...at('a', 1, 2, 5, 4, 7, 6), ...at('b', 1, 2)]);
  await untilDeadLettered(4);
  const blocked = await command('dead-letters replay --all --yes');
  assert.deepEqual([blocked.code, blocked.stdout], [0, '  trace a at version 2: nothing goes; 4-7 wait for 3: 3 has not arrived\n0 go, 4 stay: replay them when what they wait for has arrived\n']);
  assert.equal(await run.ready(run.deadLetters), 4);

  await run.publish(at('a', 3));
  await waitFor(async () => (await trace('a'))?.version === 3, { what: 'the missing event' });
  assert.equal((await trace('a'))?.parked, true);
  const plan = await command('dead-letters replay --ready');
  assert.deepEqual([plan.code, plan.stdout], [2, '  trace a at version 3: 4-7 go\n4 go\n']);
  assert.match(plan.stderr, /nothing was changed: add --yes/);
  assert.equal(await run.ready(run.deadLetters), 4);

  const replayed = await command('dead-letters replay --ready --yes');
  assert.deepEqual([replayed.code, replayed.stdout, replayed.stderr], [0, `${plan.stdout}4 replayed; 1 of 1 entities whole again\n`, '']);
  assert.deepEqual(await trace('a'), { version: 7, types: ['e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7'], parked: false });
  await run.publish(at('a', 9, 8));
  await run.untilApplied(11);
  await run.assertNothingLeft();
});
