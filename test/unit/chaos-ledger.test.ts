/** The ledger of `npm run chaos`: what it says when something was lost, doubled, misordered or left, planted here as evidence. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { Ledger, type Remains } from '../chaos/clusters/ledger.ts';
import { interleaved } from '../support/trace.ts';

const atRest: Remains = { waiting: 0, unrouted: 0, letters: ['no event'] };

/** Two entities of three events each, and a message that is no event, were published. */
async function published(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'inorder-ledger-'));
  t.after(() => rm(directory, { recursive: true }));
  const store = createMemoryStore({ stream: 'ledger', idempotencyTtlSeconds: 60 });
  const ledger = new Ledger(join(directory, 'published.ndjson'), () => store);
  await ledger.note(interleaved(2, 3, 'a'));
  ledger.poison.add('no event');
  return { ledger, store };
}

/** An entity as some worker would have left it. */
async function plant(store: Store, entityId: string, types: readonly string[], version = types.length): Promise<void> {
  const state = JSON.stringify({ types });
  const before = { expectedVersion: 0, expectedHoles: '', newHoles: '' };
  await store.commit([{ entityType: 'trace', entityId, token: entityId, ...before, newVersion: version, state, events: [] }]);
}

const whole = ['e1', 'e2', 'e3'];

test('the ledger finds nothing wrong when everything was applied once and in order, and only what is no event is left', async (t) => {
  const { ledger, store } = await published(t);
  await plant(store, 'a-0', whole);
  await plant(store, 'a-1', whole);
  const account = await ledger.account();
  assert.deepEqual([account.published, account.applied], [6, 6]);
  assert.deepEqual(ledger.verdict(account, atRest), []);
  assert.equal((await readFile(ledger.file, 'utf8')).trimEnd().split('\n').length, 6);
});

const evidence: readonly { what: string; types: readonly string[]; version?: number; says: readonly RegExp[] }[] = [
  { what: 'the last event of an entity is lost', types: ['e1', 'e2'], says: [/1 entities are behind .* a-1 at 2/] },
  { what: 'an event in the middle is lost', types: ['e1', 'e3'], says: [/a-1: e1 e3 at place 2/, /1 entities are behind .* a-1 at 2/] },
  {
    what: 'a lost event is passed over by the version',
    types: ['e1', 'e3'],
    version: 3,
    says: [/a-1: e1 e3 at place 2/, /version 3 with 2 events/],
  },
  {
    what: 'an event is applied twice',
    types: ['e1', 'e2', 'e2', 'e3'],
    says: [/a-1 is at 4, and 3 events were published/, /e1 e2 e2 e3 at place 3/],
  },
  {
    what: 'an event is applied twice, and the version does not show it',
    types: ['e1', 'e1', 'e2', 'e3'],
    version: 3,
    says: [/e1 e1 e2 e3 at place 2/, /version 3 with 4 events/],
  },
  { what: 'two events are misordered', types: ['e1', 'e3', 'e2'], says: [/a-1: e1 e3 e2 at place 2/] },
];

for (const { what, types, version, says } of evidence) {
  test(`the ledger says so when ${what}`, async (t) => {
    const { ledger, store } = await published(t);
    await plant(store, 'a-0', whole);
    await plant(store, 'a-1', types, version);
    const problems = ledger.verdict(await ledger.account(), atRest);
    assert.equal(problems.length, says.length, problems.join('\n'));
    for (const [index, sentence] of says.entries()) assert.match(problems[index]!, sentence);
  });
}

test('the ledger says so when an entity is missing, another was never published, and a third is parked though complete', async (t) => {
  const { ledger, store } = await published(t);
  await plant(store, 'a-0', whole);
  await plant(store, 'b-0', ['e1']);
  const owner = { shard: 0, epoch: 1, session: 's' };
  const why = { expectedVersion: 3, reason: 'gap_timeout', detail: 'none', sequence: 4 } as const;
  await store.park([{ entityType: 'trace', entityId: 'a-0', ...owner, ...why }]);
  assert.deepEqual(ledger.verdict(await ledger.account(), atRest), [
    'a-0 is complete, and parked',
    'b-0 was never published',
    '1 entities are behind what was published, such as a-1 at 0',
  ]);
});

test('the ledger says so when queues hold what they should not, and when what is no event is gone', async (t) => {
  const { ledger, store } = await published(t);
  await plant(store, 'a-0', whole);
  await plant(store, 'a-1', whole);
  const account = await ledger.account();
  assert.deepEqual(ledger.verdict(account, { ...atRest, waiting: 2 }), ['2 messages are left in the shards']);
  assert.deepEqual(ledger.verdict(account, { ...atRest, unrouted: 1 }), ['1 messages were not routed']);
  const left = { ...atRest, letters: ['no event', 'an event'] };
  assert.deepEqual(ledger.verdict(account, left), ['1 dead letters are left, such as an event']);
  assert.deepEqual(ledger.verdict(account, { ...atRest, letters: [] }), ['1 messages that are no events are gone, such as no event']);
});

test('the ledger takes the lives of entities as a whole only, so that it cannot expect less than was published', async (t) => {
  const { ledger } = await published(t);
  await assert.rejects(ledger.note([{ entityId: 'c', sequence: 2 }]), /event 2 of c is noted behind 0/);
  await assert.rejects(ledger.note([{ entityId: 'a-0', sequence: 4 }]), /event 4 of a-0 is noted behind 3/);
});
