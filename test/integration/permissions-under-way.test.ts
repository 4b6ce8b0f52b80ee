/**
 * Rights that are taken from a relay, an operator and a reader in the middle of their work, on the real broker and store: it is told
 * which one is missing, with the line to add, nothing is lost, and all of it is done once the right is there again.
 */
import assert from 'node:assert/strict';
import test, { after, type TestContext } from 'node:test';
import type { ConsumeMessage } from 'amqplib';
import { RabbitNode } from '../../deploy/local/rabbit-node.ts';
import { RedisNode } from '../../deploy/local/redis-node.ts';
import { loadConfig } from '../../src/config/load.ts';
import { permissionsOf, type RoleName } from '../../src/config/permissions.ts';
import { createRedisEventStore } from '../../src/stores/redis/redis-event-store.ts';
import { keptIo, runHere } from '../support/command-io.ts';
import { startCommand } from '../support/command-process.ts';
import { asRole, permit, type RabbitRight, setAcl } from '../support/least-privilege.ts';
import { useRawChannel } from '../support/rabbitmq.ts';
import { waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { interleaved, readyCount } from '../support/trace.ts';

/** Of these tests alone, which close all connections. */
const [node, redis] = await Promise.all([RabbitNode.start(), RedisNode.start()]);
after(() => Promise.all([node.stop(), redis.stop()]));

interface Connection {
  readonly name: string;
  readonly user: string;
  readonly user_provided_name?: string;
}

/** By the management API: `rabbitmqctl` takes seconds. */
async function closeConnections(isMeant: (connection: Connection) => boolean): Promise<void> {
  const api = `${new URL(node.managementUrl).origin}/api/connections`;
  const headers = { authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}` };
  const found = async () => ((await (await fetch(api, { headers })).json()) as Connection[]).filter(isMeant);
  const meant = await waitFor(async () => ((those) => those.length > 0 && those)(await found()), { what: 'the connections to close' });
  for (const { name } of meant) await fetch(`${api}/${encodeURIComponent(name)}`, { method: 'DELETE', headers });
}

/** The topology of a stream, and the user of a role. */
async function useRole(t: TestContext, role: RoleName) {
  const services = { amqpUrl: node.amqpUrl, managementUrl: node.managementUrl, redisUrl: redis.redisUrl };
  const run = new StreamRun(t, 'rights', { ...services, variables: { GAP_TIMEOUT_MS: '300' } });
  const { stream } = run;
  const env = { AMQP_URL: node.amqpUrl, REDIS_URL: redis.redisUrl, STREAM: stream, SHARDS: '2' };
  assert.equal(await runHere(['topology', 'apply'], keptIo({ env }).io), 0);
  const urls = await asRole(role, env, services);
  const user = new URL(urls['AMQP_URL'] ?? '').username;
  const rights = permissionsOf(role, loadConfig(env)).rabbitmq ?? {};
  /** `onPrinted`: called once, after the first text is printed. */
  const command = async (words: string, onPrinted?: () => Promise<unknown>) => {
    const { io, out } = keptIo({ env: { ...env, ...urls } });
    let isFirst = true;
    const write = async (text: string) => {
      out.stdout += text;
      if (isFirst) await onPrinted?.();
      isFirst = false;
      return true;
    };
    return { code: await runHere(words.split(' '), { ...io, stdout: { ...io.stdout, write } }), ...out };
  };
  return {
    ...{ run, stream, env, urls, user, command },
    /** Takes a right away at the broker, which asks for it when a channel or a consumer begins. */
    take: async (missing: RabbitRight, named = '') => {
      await permit(node.managementUrl, user, { ...rights, [missing]: '^$' });
      await closeConnections((one) => one.user === user && one.user_provided_name?.includes(named) === true);
    },
    giveBack: () => permit(node.managementUrl, user, rights),
    lacks: (missing: RabbitRight) => new RegExp(String.raw`add \^\S+\$ to the ${missing} .*permission of user '${user}'`),
  };
}

test('the right to publish that is taken from a relay under traffic is named, and every event is published once it is back', async (t) => {
  const { stream, env, urls, take, giveBack, lacks } = await useRole(t, 'relay');
  const { process: relay } = await startCommand(['relay'], { ...env, ...urls });
  t.after(() => relay.kill('SIGKILL'));
  let said = '';
  relay.stdout.on('data', (text: string) => (said += text));
  const events = createRedisEventStore({ url: redis.redisUrl, stream });
  t.after(() => events.close());
  const batch = Array.from({ length: 40 }, () => ({ type: 'e' }));
  const append = () => events.append({ entityType: 'trace', entityId: 'o' }, batch, { expectedVersion: 'any' });
  const published = async () =>
    (await readyCount(node.amqpUrl, `${stream}.shard.000`)) + (await readyCount(node.amqpUrl, `${stream}.shard.001`));
  await append();
  await waitFor(async () => (await published()) >= 40, { what: 'events before' });
  await take('write');
  await append();
  await waitFor(() => lacks('write').test(said), { what: 'the missing right named' });
  // For longer than its publisher tries.
  await waitFor(() => said.includes('the relay pauses'), { what: 'the relay to have given up for now' });
  await append();
  assert.equal(relay.exitCode, null, said);
  await giveBack();
  await waitFor(async () => (await published()) >= 120, { what: 'all events' });
  const sequences = new Set<number>();
  const channel = await useRawChannel(t, node.amqpUrl);
  // What was published and not noted is published again.
  const note = (message: ConsumeMessage | null) => void sequences.add(JSON.parse(String(message?.content)).sequence);
  for (const shard of ['000', '001']) await channel.consume(`${stream}.shard.${shard}`, note, { noAck: true });
  await waitFor(() => sequences.size === 120, { what: 'all of them read' });
  assert.deepEqual(
    [...sequences],
    Array.from({ length: 120 }, (_, index) => index + 1),
  );
});

const [entities, length] = [3, 8];

/** Events of which each but the first was dead-lettered, and can be replayed since that has come. */
async function letDie(run: StreamRun, name: string, appliedBefore: number): Promise<void> {
  const all = interleaved(entities, length, name);
  await run.publish(all.filter(({ sequence }) => sequence > 1));
  await waitFor(async () => (await run.ready(run.deadLetters)) === entities * (length - 1), { what: `the dead letters of ${name}` });
  await run.publish(all.filter(({ sequence }) => sequence === 1));
  await run.untilApplied(appliedBefore + entities);
}

const replay = 'dead-letters replay --all --yes';

test('a right at the broker that is taken from an operator in the middle of a replay is named, and it is run again to its end', async (t) => {
  const { run, take, giveBack, lacks, command } = await useRole(t, 'operator');
  await run.worker();
  const cases = [
    { missing: 'write', ended: '/replay@' },
    { missing: 'read', ended: '/operator@' },
    { missing: 'configure', ended: '/operator@' },
  ] as const;
  for (const [index, { missing, ended }] of cases.entries()) {
    const before = index * entities * length;
    await letDie(run, missing, before);
    const running = command(`${replay} --rate 2`);
    await run.untilApplied(before + entities + 1);
    await take(missing, ended);
    const interrupted = await running;
    assert.equal(interrupted.code, 1, interrupted.stdout + interrupted.stderr);
    assert.match(interrupted.stderr, missing === 'write' ? lacks('write') : /the connection to the broker was lost/);
    const again = await command(replay);
    assert.equal(again.code, 1, again.stdout);
    assert.match(again.stderr, lacks(missing));
    assert.ok((await run.applied()) < before + entities * length, 'in the middle');
    await giveBack();
    const last = await command(replay);
    assert.equal(last.code, 0, last.stdout + last.stderr);
    await run.untilApplied(before + entities * length);
  }
  await run.assertNothingLeft();
});

test('a command of Redis that is taken from an operator in the middle of a replay is named, and it is run again to its end', async (t) => {
  const { run, user, env, command } = await useRole(t, 'operator');
  await run.worker();
  const named: string[] = [];
  const commands = permissionsOf('operator', loadConfig(env)).redis?.commands.map((name) => name.slice(1)) ?? [];
  for (const [index, missing] of commands.entries()) {
    const before = index * entities * length;
    await letDie(run, missing.replace('|', '-'), before);
    const running = command(`${replay} --rate 10`);
    await run.untilApplied(before + entities + 1);
    await setAcl(redis.redisUrl, user, `-${missing}`);
    const interrupted = await running;
    if (interrupted.code !== 0) {
      assert.match(interrupted.stderr, new RegExp(String.raw`ACL SETUSER \S+ \+${missing.replace('|', '[|]')} `));
      assert.doesNotMatch(interrupted.stderr, /unexpected error|\ba bug\b/);
      named.push(missing);
    }
    await setAcl(redis.redisUrl, user, `+${missing}`);
    const last = await command(replay);
    assert.equal(last.code, 0, last.stdout + last.stderr);
    await run.untilApplied(before + entities * length);
  }
  t.diagnostic(`missed: ${named.join(' ')}`);
  assert.deepEqual(
    ['evalsha', 'hget', 'hset'].filter((one) => !named.includes(one)),
    [],
  );
  await run.assertNothingLeft();
});

test('a right that is taken from a reader in the middle of a list or an export is named, and every letter lies there as before', async (t) => {
  const { stream, user, take, giveBack, lacks, command } = await useRole(t, 'reader');
  const count = 3_000;
  const channel = await useRawChannel(t, node.amqpUrl);
  for (let sequence = 1; sequence <= count; sequence++)
    channel.sendToQueue(`${stream}.dead-letters`, Buffer.from(`{"id":"e${sequence}","entity_id":"e","sequence":${sequence},"type":"e"}`));
  await channel.waitForConfirms();
  const sequencesIn = (text: string) => [...text.matchAll(/(?:"sequence":|\\"sequence\\":)(\d+)/g)].map(([, sequence]) => Number(sequence));
  const assertWhole = async (words: string) => {
    await waitFor(async () => (await readyCount(node.amqpUrl, `${stream}.dead-letters`)) === count, { what: 'all letters in the queue' });
    const { code, stdout, stderr } = await command(words);
    assert.equal(code, 0, stderr);
    // A connection that the broker closes may leave them in another order.
    assert.deepEqual(
      [...new Set(sequencesIn(stdout))].sort((a, b) => a - b),
      Array.from({ length: count }, (_, index) => index + 1),
    );
  };
  for (const words of ['dead-letters list --json', 'dead-letters export']) {
    await assertWhole(words);
    const lost = await command(words, () => take('read'));
    assert.equal(lost.code, 1);
    assert.match(lost.stderr, /the connection to the broker was lost/);
    const refused = await command(words);
    assert.deepEqual([refused.code, refused.stdout], [1, '']);
    assert.match(refused.stderr, lacks('read'));
    await giveBack();
    await assertWhole(words);

    const halfway = await command(words, () => setAcl(redis.redisUrl, user, '-hget'));
    assert.equal(halfway.code, 1);
    assert.match(halfway.stderr, / ACL SETUSER \S+ \+hget /);
    assert.ok(sequencesIn(halfway.stdout).length > 0 && new Set(sequencesIn(halfway.stdout)).size < count, 'in the middle');
    await setAcl(redis.redisUrl, user, '+hget');
    await assertWhole(words);
  }
});
