import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { commands, runCli } from '../../src/cli/run.ts';
import { planOf } from '../../src/cli/topology.ts';
import { loadConfig } from '../../src/config/load.ts';
import { type RoleName, permissionsOf, roleNames } from '../../src/config/permissions.ts';
import { checkout } from '../support/checkout.ts';
import { keptIo } from '../support/command-io.ts';
import { readReadme } from '../support/readme.ts';

async function permissions(words: readonly string[], env: Record<string, string> = {}) {
  const { io, out } = keptIo({ env });
  return { code: await runCli({ commands, version: '0' }, ['permissions', ...words], io), ...out };
}

const of = (role: RoleName, env: Record<string, string> = {}) => permissionsOf(role, loadConfig(env));

test('what is shipped is what the command prints for the default configuration', async () => {
  const { code, stdout } = await permissions([]);
  assert.equal(code, 0);
  assert.equal(
    readFileSync(`${checkout}deploy/permissions/events.sh`, 'utf8'),
    stdout,
    'run: node --import tsx test/support/refresh-readme.ts',
  );
});

test('every command that asks broker or store runs as one role', () => {
  const asksNobody = ['topology show', 'permissions', 'demo'];
  const named = roleNames.flatMap((role) => of(role).commands);
  assert.deepEqual(named.toSorted(), commands.flatMap(({ name }) => (asksNobody.includes(name) ? [] : [name])).toSorted());
});

/** Whoever runs a script needs each command in it. Idempotency records are kept by programs of one's own, as the README tells. */
const callers: Readonly<Record<string, readonly RoleName[]>> = {
  'append-3': ['appender'],
  'begin-replay-1': ['worker', 'operator'],
  'change-layout-1': ['topology'],
  'claim-1': ['worker'],
  'commit-3': ['worker'],
  'event-layout-1': ['appender', 'relay'],
  'idempotency-begin-1': [],
  'idempotency-complete-1': [],
  'idempotency-release-1': [],
  'lookup-2': ['worker', 'operator', 'reader'],
  'next-epoch-3': ['worker'],
  'note-replay-1': ['worker', 'operator'],
  'note-session-1': ['worker'],
  'park-1': ['worker'],
  'read-events-2': ['worker', 'operator', 'reader', 'appender'],
  'record-dead-letter-2': ['worker'],
  'relay-1': ['relay'],
  'resume-2': ['operator'],
  'time-1': ['worker', 'operator', 'reader', 'doctor'],
  'write-snapshot-1': ['appender'],
};

test('a role may run each command of the scripts that it calls', () => {
  const folder = `${checkout}src/stores/redis/scripts/`;
  const everything = { AUTO_REPLAY: 'true', EVENT_LOG: 'true', GAP_REPAIR: 'event-store' };
  assert.deepEqual(
    readdirSync(folder)
      .map((file) => file.replace('.lua', ''))
      .toSorted(),
    Object.keys(callers),
  );
  for (const [script, roles] of Object.entries(callers)) {
    const used = [...readFileSync(`${folder}${script}.lua`, 'utf8').matchAll(/redis\.call\('(\w+)'/g)].map(
      ([, name = '']) => `+${name.toLowerCase()}`,
    );
    const told = roles.length > 0 ? used : used.filter((name) => readReadme('deploy/permissions/README.md').includes(` ${name}`));
    assert.deepEqual(told, used, script);
    for (const role of roles) {
      const allowed = of(role, everything).redis?.commands ?? [];
      assert.deepEqual(
        used.filter((name) => !allowed.includes(name)),
        [],
        `${role} calls ${script}`,
      );
    }
  }
});

test('a configuration adds what it needs, and nothing else is there', () => {
  const added = (role: RoleName, env: Record<string, string>) => {
    const [less, more] = [of(role), of(role, env)];
    return {
      redis: more.redis?.commands.filter((name) => !less.redis?.commands.includes(name)) ?? null,
      keys: more.redis?.keys.filter((key) => !less.redis?.keys.includes(key)) ?? null,
      rabbitmq: (['configure', 'write', 'read'] as const).flatMap((right) =>
        more.rabbitmq?.[right] === less.rabbitmq?.[right] ? [] : [`${right} ${more.rabbitmq?.[right]}`],
      ),
    };
  };
  const none = { redis: [], keys: [], rabbitmq: [] };
  assert.deepEqual(added('worker', { EVENT_LOG: 'true' }), { ...none, redis: ['+rpush'] });
  assert.deepEqual(added('worker', { DURABILITY: 'replicas:1' }), { ...none, redis: ['+set', '+wait'] });
  assert.deepEqual(added('appender', { DURABILITY: 'aof' }), { ...none, redis: ['+set', '+waitaof'] });
  assert.deepEqual(added('reader', { REDIS_URL: 'redis://one,two' }), { ...none, redis: ['+cluster|info', '+cluster|slots'] });
  assert.deepEqual(added('reader', { REDIS_URL: 'redis://one/2' }), { ...none, redis: ['+select'] });
  assert.deepEqual(added('worker', { GAP_REPAIR: 'event-store' }), {
    ...none,
    redis: ['+llen', '+lrange', '+xrange'],
    keys: ['~inorder:{events}:*'],
  });
  assert.deepEqual(added('worker', { AUTO_REPLAY: 'true' }), {
    redis: ['+xadd'],
    keys: [],
    rabbitmq: [
      String.raw`configure ^events\.operator$`,
      String.raw`write ^(events|events\.store)$`,
      String.raw`read ^(events\.dead-letters|events\.shard\.[0-9]+|events\.store)$`,
    ],
  });
  assert.deepEqual(permissionsOf('worker', loadConfig({}), { replies: true }).rabbitmq?.write, String.raw`^(amq\.default|events\.store)$`);
  const inPostgres = { STATE_STORE: 'postgres', DATABASE_URL: 'postgres://localhost/inorder' };
  for (const role of roleNames) assert.equal(of(role, inPostgres).redis, null, role);
  for (const [role, name] of [
    ['operator', 'ADMIN_TOKEN'],
    ['reader', 'READ_TOKEN'],
  ] as const) {
    const worker = of('worker', { [name]: 'sixteen-characters' });
    assert.deepEqual(
      of(role).redis?.commands.filter((one) => !worker.redis?.commands.includes(one)),
      [],
      name,
    );
    assert.equal(worker.rabbitmq?.configure, of(role).rabbitmq?.configure, name);
    assert.equal(worker.redis?.commands.includes('+hkeys'), role === 'operator', name);
  }
});

test('a pattern is of the whole name, and of this stream alone', () => {
  const env = { STREAM: 'a.b', SHARDS: '3' };
  const plan = planOf(loadConfig(env));
  const [queues, exchanges] = [plan.queues.map(({ name }) => name), plan.exchanges.map(({ name }) => name)];
  const names = [...new Set([...queues, ...exchanges, plan.record.queue.name, 'a.b.operator'])];
  const others = ['axb', 'a.bc', 'xa.b', 'a.b.c', 'a.b.shard.', 'a.b.shard.000.x', 'axb.shard.000', 'a.b-store', ''];
  const matched = (role: RoleName, right: 'configure' | 'write' | 'read') => {
    const pattern = new RegExp(of(role, env).rabbitmq?.[right] ?? '^$');
    assert.deepEqual(
      others.filter((name) => name !== '' && pattern.test(name)),
      [],
      `${role} ${right}`,
    );
    return names.filter((name) => pattern.test(name)).toSorted();
  };
  const shards = ['a.b.shard.000', 'a.b.shard.001', 'a.b.shard.002'];
  assert.deepEqual(
    [matched('worker', 'configure'), matched('worker', 'write'), matched('worker', 'read')],
    [[], ['a.b.store'], [...shards, 'a.b.store']],
  );
  assert.deepEqual([matched('publisher', 'configure'), matched('publisher', 'write'), matched('publisher', 'read')], [[], ['a.b'], []]);
  assert.deepEqual(matched('reader', 'write'), []);
  assert.deepEqual(matched('topology', 'configure'), names.filter((name) => name !== 'a.b.operator').toSorted());
});

test('one role is printed on demand, as words of a shell or as JSON, and a misspelt one is named', async () => {
  const env = { AMQP_URL: "amqp://localhost/it's" };
  assert.equal(
    (await permissions(['publisher'], env)).stdout,
    String.raw`# publisher: Publishes events.
# inorder publish
rabbitmqctl set_permissions -p 'it'\''s' events-publisher '^$' '^events$' '^$'
rabbitmqctl set_user_tags events-publisher
`,
  );
  const { role, user, rabbitmq, redis } = JSON.parse((await permissions(['publisher', '--json'], env)).stdout);
  assert.deepEqual(
    [role, user, rabbitmq, redis],
    ['publisher', 'events-publisher', { configure: '^$', write: '^events$', read: '^$', tags: [] }, null],
  );
  assert.equal((await permissions(['--json'])).stdout.trimEnd().split('\n').length, roleNames.length);
  for (const [word, said] of [
    ['reeder', 'did you mean reader?'],
    ['root', `there are ${roleNames.join(', ')}`],
  ] as const) {
    assert.deepEqual(await permissions([word]), { code: 2, stdout: '', stderr: `inorder: there is no role "${word}": ${said}\n`, log: '' });
  }
});
