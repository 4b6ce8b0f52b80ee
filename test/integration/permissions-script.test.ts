/** What `inorder permissions` prints, run by a shell: users who might do everything have afterwards what their role needs, and no more. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { loadConfig } from '../../src/config/load.ts';
import { permissionsOf } from '../../src/config/permissions.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { useRabbitNode, useRedisNode, waitFor } from '../support/services.ts';
import { publishTrace, readTraces } from '../support/trace.ts';
import { WorkerProcess } from '../support/worker-process.ts';

const run = promisify(execFile);

/** The words of each `rabbitmqctl` and `redis-cli` of a script, as the shell takes them apart. */
async function callsOf(t: TestContext, script: string): Promise<readonly (readonly [program: string, ...words: string[]])[]> {
  const folder = await mkdtemp(join(tmpdir(), 'inorder-script-'));
  t.after(() => rm(folder, { recursive: true }));
  const tell = '#!/bin/sh\nprintf \'%s\\0\' "${0##*/}" "$@"\necho\n';
  for (const name of ['rabbitmqctl', 'redis-cli']) await writeFile(join(folder, name), tell, { mode: 0o755 });
  const { stdout } = await run('sh', ['-e', '-c', script], { env: { PATH: `${folder}:${process.env['PATH']}` } });
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\0').slice(0, -1) as [string, ...string[]]);
}

test('what is printed takes from users what they had, gives them what their role needs, and a worker runs with it', async (t) => {
  const [node, redis] = await Promise.all([useRabbitNode(t), useRedisNode(t)]);
  const env = { AMQP_URL: node.amqpUrl, REDIS_URL: redis.redisUrl, STREAM: 'orders.eu-1', SHARDS: '2', PROCESSOR: 'history' };
  const store = new Redis(redis.redisUrl);
  t.after(() => store.disconnect());
  const runScript = async (script: string) => {
    for (const [program, ...words] of await callsOf(t, script)) {
      if (program === 'rabbitmqctl') await node.ctl(...words);
      else await store.call(words[0]!, words.slice(1));
    }
  };
  const ask = async (words: string, more: Record<string, string> = {}) => {
    const { io, out } = keptIo({ env: { ...env, ...more } });
    await runHere(words.split(' '), io);
    return out.stdout;
  };
  const [worker, doctor] = (['worker', 'doctor'] as const).map((role) => permissionsOf(role, loadConfig(env)));
  for (const { user } of [worker!, doctor!]) {
    await node.ctl('add_user', user, 'least');
    await node.ctl('set_user_tags', user, 'administrator');
    await node.ctl('set_permissions', user, '.*', '.*', '.*');
    await store.call('ACL', ['SETUSER', user, 'on', '>least', 'allkeys', 'allchannels', '+@all', '(~other +get)']);
  }
  const as = (url: string, user: string) => url.replace(/\/\/(?:guest:guest@)?/, `//${user}:least@`);
  assert.match(
    await ask('doctor', { MANAGEMENT_URL: as(node.managementUrl, doctor!.user) }),
    /^warning +rights: \S+-doctor is an administrator/m,
  );

  for (const { role, user, rabbitmq, redis: rights } of [worker!, doctor!]) {
    const script = await ask(`permissions ${role}`);
    await runScript(script);
    const linesOf = async (...words: string[]) => (await node.ctl(...words)).split('\n').filter((line) => line.startsWith(`${user}\t`));
    assert.deepEqual(await linesOf('list_permissions'), [[user, rabbitmq?.configure, rabbitmq?.write, rabbitmq?.read].join('\t')]);
    assert.deepEqual(await linesOf('list_users'), [`${user}\t[${rabbitmq?.tags.join(', ')}]`]);

    const rules = async (name = user) => {
      const flat = (await store.call('ACL', ['GETUSER', name])) as unknown[];
      const of = (name: string) => flat[flat.indexOf(name) + 1];
      const commands = String(of('commands')).split(' ').sort();
      return {
        commands,
        keys: of('keys'),
        channels: of('channels'),
        passwords: (of('passwords') as unknown[]).length,
        selectors: (of('selectors') as unknown[]).length,
      };
    };
    // Redis says some sets of commands as a category without the rest of it: a user who had nothing before is told in the same way.
    await store.call('ACL', ['SETUSER', 'fresh', 'on', '>least', 'resetchannels', ...(rights?.keys ?? []), ...(rights?.commands ?? [])]);
    const expected = await rules('fresh');
    await store.call('ACL', ['DELUSER', 'fresh']);
    assert.deepEqual(await rules(), { ...expected, selectors: 1 });
    const mine = new Redis(as(redis.redisUrl, user));
    t.after(() => mine.disconnect());
    assert.equal(await mine.get('other'), null, 'by the selector');
    const [, clear = ''] = /^# From Redis 7 on, .*: (redis-cli ACL SETUSER .*)$/m.exec(script) ?? [];
    await runScript(clear);
    assert.deepEqual(await rules(), { ...expected, selectors: 0 });
    for (const [name, ...words] of [['get', 'other'], ['get', 'inorder:others:x'], ['flushall'], ['publish', 'x', 'y']] as const)
      await assert.rejects(mine.call(name, words), /NOPERM/, name);
  }

  assert.match(
    await ask('doctor', { MANAGEMENT_URL: as(node.managementUrl, doctor!.user) }),
    /^ok +rights: \S+-doctor has no more than it needs$/m,
  );
  await ask('topology apply');
  const least = { AMQP_URL: as(node.amqpUrl, worker!.user), REDIS_URL: as(redis.redisUrl, worker!.user), TOPOLOGY: 'verify' };
  const running = await WorkerProcess.ready(t, { ...env, ...least });
  await publishTrace(node.amqpUrl, env.STREAM, [{ entityId: 'o', sequence: 1 }]);
  await waitFor(async () => (await readTraces(redis.redisUrl, env.STREAM)).get('o')?.version === 1, { what: 'an event applied' });
  assert.doesNotMatch(running.output, /no access|NOPERM/);
});
