/**
 * The model and the stores do the same: the memory store, which stands for them in the simulation, and the one that is tried are given
 * the commands that a seed draws, right ones and wrong ones, early, late and twice. After each command the answers are compared, and
 * every entity; at the end all that can be asked for. Only times are each store's own: of those it is compared which are the same.
 *
 * An entity is in a batch at most once, as a worker has it. Nothing expires here, and no lease of a replay ends while it is looked at.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { EntityRef } from '../../src/events/event.ts';
import { entityKey } from '../../src/events/identity.ts';
import type { RejectionReason } from '../../src/events/reasons.ts';
import type { Commit, CommitEvent, DeadLetterRecord, InitialVersion, LookupResult, Park, Snapshot } from '../../src/ordering/entity.ts';
import { Holes } from '../../src/ordering/holes.ts';
import type { StreamLayout } from '../../src/stores/layout.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import type { Store, StoreOptions } from '../../src/stores/store.ts';
import { Chance } from '../simulation/virtual-time.ts';
import { ManualTime } from '../support/manual-time.ts';
import { needsPostgres, usePostgres } from '../support/postgres.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { snapshotOf } from './builders.ts';

const commandsPerSeed = 80;
const entities: readonly EntityRef[] = [
  { entityType: 'order', entityId: 'o-1' },
  { entityType: 'order', entityId: '{o-2}|*' },
  { entityType: 'or:der', entityId: 'ö 😀' },
];
const reasons: readonly RejectionReason[] = ['gap_timeout', 'handler_failed', 'entity_parked', 'malformed', 'late', 'out_of_order'];
const farMs = 3_600_000;
/** What the commands have to have led to, or the traces show nothing. */
const sometimes = [
  ...['commit ok', 'commit unparked', 'commit duplicate', 'commit stale', 'commit conflict', 'claim ok', 'claim fenced'],
  ...['park ok', 'park again', 'park stale', 'park fenced', 'replaying', 'next epoch ok', 'next epoch halted', 'remembered', 'forgotten'],
];

/** One of the two stores, and when its entities were parked: the latest last. */
class Subject {
  readonly store: Store;
  readonly #parkings = new Map<string, string[]>();

  constructor(store: Store) {
    this.store = store;
  }

  /** With the number of the parking in the place of its time. */
  plain<T>(entity: EntityRef, answer: T): T {
    const known = this.#parkingsOf(entity);
    return replaced(answer, 'at', (at) => {
      if (!known.includes(String(at))) known.push(String(at));
      return known.indexOf(String(at));
    });
  }

  /** The time of the last parking, or of the one before. */
  parkedAt(entity: EntityRef, before: number): string | undefined {
    return this.#parkingsOf(entity).at(-1 - before);
  }

  #parkingsOf(entity: EntityRef): string[] {
    const known = this.#parkings.get(entityKey(entity)) ?? [];
    this.#parkings.set(entityKey(entity), known);
    return known;
  }
}

type Command = readonly [name: string, what: unknown, run: (subject: Subject) => Promise<unknown>];

class Trace {
  readonly #chance: Chance;
  readonly #subjects: readonly [model: Subject, other: Subject];
  readonly #time: ManualTime;
  readonly #first: number;
  readonly #snapshots = new Map<string, Snapshot>();
  readonly #sent = new Map<string, Commit>();
  readonly #records: DeadLetterRecord[] = [];
  readonly #done: string[] = [];
  readonly #reached: Set<string>;
  #epoch = 0;
  #tokens = 0;
  #layout: StreamLayout | null = null;

  constructor(seed: number, options: StoreOptions, time: ManualTime, other: Store, reached: Set<string>) {
    this.#chance = new Chance(seed, 'store');
    this.#time = time;
    this.#reached = reached;
    this.#first = (options.initialVersion ?? 0) + 1;
    this.#subjects = [new Subject(createMemoryStore({ ...options, time })), new Subject(other)];
  }

  async run(): Promise<void> {
    await this.#compareEntities();
    for (let n = 0; n < commandsPerSeed; n++) {
      this.#time.atMs += 10;
      const startedMs = Date.now();
      const [name, what, run] = this.#draw();
      this.#done.push(`${name} ${JSON.stringify(what)}`);
      this.#note(name, await this.#compare(name, run));
      await this.#compareEntities();
      // No entity is parked twice at one time.
      if (name === 'park') await waitFor(() => Date.now() > startedMs + 1, { what: 'the next moment', intervalMs: 1 });
    }
    await this.#compareAll();
  }

  async #compare(what: string, ask: (subject: Subject) => Promise<unknown>): Promise<unknown> {
    const [expected, actual] = await Promise.all(this.#subjects.map(ask));
    assert.deepEqual(actual, expected, `${what}, after:\n${this.#done.slice(-12).join('\n')}`);
    return expected;
  }

  async #compareEntities(): Promise<void> {
    for (const entity of entities) {
      const snapshot = await this.#compare('load', async (subject) => subject.plain(entity, await snapshotOf(subject.store, entity)));
      this.#snapshots.set(entityKey(entity), snapshot as Snapshot);
      if ((snapshot as Snapshot).parked?.replaying) this.#reached.add('replaying');
    }
  }

  async #compareAll(): Promise<void> {
    for (const entity of entities) {
      await this.#compare('the log', ({ store }) => all(store.readLog(entity)));
      const asked = Array.from({ length: this.#versionOf(entity) + 3 }, (_, sequence) => ({ ...entity, sequence, id: '' }));
      const ids = asked.map(({ sequence }) => ({ ...entity, sequence: null, id: `e-${sequence}` }));
      const found = await this.#compare('what is remembered', ({ store }) => store.lookUp([...asked, ...ids]));
      for (const { status } of found as readonly LookupResult[]) this.#reached.add(status === 'known' ? 'remembered' : 'forgotten');
    }
    await this.#compare('the list', async (subject) => {
      const found = await all(subject.store.listEntities({}));
      return found.map((one) => subject.plain(one, one)).sort((one, other) => (entityKey(one) < entityKey(other) ? -1 : 1));
    });
    await this.#compare('dead letters', async ({ store }) => {
      const found = await store.findDeadLetters(this.#records);
      return found.map((one) => one && [one.record, one.replayedAt.length]);
    });
    await this.#compare('the audit trail', async ({ store }) => {
      return (await all(store.operator.readAudit())).map(({ at: _, ...entry }) => entry);
    });
  }

  #note(name: string, answers: unknown): void {
    if (!Array.isArray(answers)) return;
    for (const { status, unparked, isNew } of answers.filter((answer) => answer?.status !== undefined)) {
      this.#reached.add(`${name} ${unparked ? 'unparked' : isNew === false ? 'again' : status}`);
    }
  }

  #versionOf(entity: EntityRef): number {
    return this.#snapshots.get(entityKey(entity))?.version ?? 0;
  }

  #draw(): Command {
    const kind = this.#chance.next();
    if (kind < 0.5) return this.#ofEntities();
    if (kind < 0.75) return this.#ofLetters();
    return this.#ofStream();
  }

  #some(): readonly EntityRef[] {
    const some = entities.filter(() => this.#chance.hits(0.5));
    return some.length > 0 ? some : [this.#chance.pick(entities)];
  }

  #ofEntities(): Command {
    const kind = this.#chance.next();
    const some = this.#some();
    const each = (name: string, asks: readonly EntityRef[], ask: (store: Store) => Promise<readonly unknown[]>): Command => [
      name,
      asks,
      async (subject) => (await ask(subject.store)).map((answer, index) => subject.plain(asks[index]!, answer)),
    ];
    if (kind < 0.6) {
      const commits = some.map((entity) => this.#commit(entity));
      return each('commit', commits, (store) => store.commit(commits));
    }
    if (kind < 0.75) {
      const claims = some.map((entity) => ({ ...entity, ...this.#owner() }));
      return each('claim', claims, (store) => store.claim(claims));
    }
    const parks = some.map((entity): Park => {
      const version = this.#versionOf(entity);
      const sequence = version + this.#chance.between(1, 5);
      const expectedVersion = this.#chance.hits(0.1) ? version + 1 : version;
      return { ...entity, ...this.#owner(), expectedVersion, reason: 'gap_timeout', detail: 'it did not come: "é|"', sequence };
    });
    return each('park', parks, (store) => store.park(parks));
  }

  #owner() {
    const epoch = Math.max(1, this.#epoch + this.#chance.between(-1, 1));
    return { shard: this.#chance.between(0, 1), epoch, session: this.#chance.pick(['a', 'b']) };
  }

  #commit(entity: EntityRef): Commit {
    const before = this.#sent.get(entityKey(entity));
    if (before !== undefined && this.#chance.hits(0.15)) return before;
    const { version, holes } = this.#snapshots.get(entityKey(entity))!;
    const open = Holes.parse(holes);
    const late = Array.from({ length: Math.max(0, version + 1) }, (_, sequence) => sequence).find((sequence) => open.has(sequence));
    const way = this.#chance.next();
    let [to, left, sequences] = [version, open, [] as number[]];
    if (way < 0.1 && late !== undefined) [left, sequences] = [open.close(late), [late]];
    else if (way < 0.2) {
      to = version + this.#chance.between(2, 5);
      [left, sequences] = [open.add(version + 1, to - 1), [to]];
    } else if (way < 0.25) {
      to = this.#chance.between(this.#first - 1, Math.max(this.#first, version + 2));
      left = open.resynced(version, to);
    } else {
      to = version + this.#chance.between(1, 3);
      sequences = Array.from({ length: to - version }, (_, index) => version + 1 + index);
    }
    const token = before !== undefined && this.#chance.hits(0.05) ? before.token : `1:a:${++this.#tokens}`;
    const commit: Commit = {
      ...entity,
      token,
      expectedVersion: this.#chance.hits(0.05) ? version + 1 : version,
      expectedHoles: this.#chance.hits(0.05) ? '1' : holes,
      newVersion: to,
      newHoles: left.toString(),
      state: this.#chance.hits(0.2) ? null : `{"é":"${token}"}`,
      events: sequences.map((sequence) => this.#event(sequence)),
    };
    this.#sent.set(entityKey(entity), commit);
    return commit;
  }

  #event(sequence: number): CommitEvent {
    const used = this.#chance.hits(0.1) ? this.#chance.between(0, sequence) : sequence;
    const event = {
      id: `e-${used}`,
      recordId: !this.#chance.hits(0.1),
      sequence,
      payloadHash: this.#chance.hits(0.1) ? 'another' : `hash-${used}`,
      result: this.#chance.pick([null, '', '{"a|b":1}']),
      consumed: this.#chance.hits(0.1),
    };
    return this.#chance.hits(0.5) ? { ...event, log: `{"sequence":${sequence}}` } : event;
  }

  #ofLetters(): Command {
    const kind = this.#chance.next();
    const entity = this.#chance.pick(entities);
    if (kind < 0.35) {
      const replay = { ...entity, replayedTo: this.#chance.hits(0.4) ? undefined : this.#versionOf(entity) + this.#chance.between(-1, 4) };
      const leaseMs = this.#chance.pick([0, farMs]);
      const before = this.#chance.pick([null, 0, 0, 1]);
      return [
        'begin a replay',
        [replay, leaseMs, before],
        async (subject) => {
          const parkedAt = before === null ? undefined : subject.parkedAt(entity, before);
          return subject.plain(entity, await subject.store.operator.beginReplay([{ ...replay, parkedAt }], leaseMs));
        },
      ];
    }
    const [known] = this.#records.slice(this.#chance.between(0, this.#records.length));
    if (kind < 0.5 && known !== undefined) return ['note a replay', known, ({ store }) => store.operator.noteReplays([known])];
    const owner = this.#chance.hits(0.8) ? entity : null;
    const record: DeadLetterRecord = {
      fingerprint: `${owner?.entityId}-${this.#chance.between(1, 4)}`,
      id: null,
      entityType: owner?.entityType ?? null,
      entityId: owner?.entityId ?? null,
      sequence: this.#chance.hits(0.1) ? null : Math.max(0, this.#versionOf(entity) + this.#chance.between(-1, 6)),
      type: 'ItemAdded',
      reason: this.#chance.pick(reasons),
      detail: this.#chance.pick(['why', `${'x'.repeat(1_023)}😀 cut`]),
      shard: 1,
      deadLetteredAt: '2026-01-02T03:04:05.678Z',
    };
    this.#records.push(record);
    return ['record a dead letter', record, ({ store }) => store.recordDeadLetters([record])];
  }

  #ofStream(): Command {
    const shard = this.#chance.between(0, 1);
    const epoch = Math.max(1, this.#epoch + this.#chance.between(-2, 1));
    const note = this.#chance.pick([null, '', 'a note: {"é"}']);
    const halt = { shard: this.#chance.pick([shard, null]), detail: `"${epoch}" was there`, at: '2026-01-02T03:04:05.678Z' };
    const shape = { shards: this.#chance.between(1, 9), exchangeType: 'x-consistent-hash' };
    const from = this.#chance.hits(0.8) ? this.#layout : null;
    const entry = { action: 'skip-sequence', who: 'é', entityType: null, entityId: null, what: `${epoch}`, reason: '' } as const;
    const commands: readonly Command[] = [
      ['next epoch', shard, async ({ store }) => hasIdentity(await store.nextEpoch(shard))],
      ['next epoch', shard, async ({ store }) => hasIdentity(await store.nextEpoch(shard))],
      ['note', [shard, epoch, note], ({ store }) => store.noteSession(shard, epoch, note)],
      ['note', [shard, epoch, note], ({ store }) => store.noteSession(shard, epoch, note)],
      ['halt', halt, ({ store }) => store.halt(halt)],
      ['resume', epoch, async ({ store }) => ordered(await store.operator.resume(epoch))],
      ['resume', epoch, async ({ store }) => ordered(await store.operator.resume(epoch))],
      ['identify', null, async ({ store }) => typeof (await store.identify())],
      ['record the layout', shape, ({ store }) => store.recordLayout(shape)],
      ['change the shape', [shape, from], ({ store }) => store.operator.changeShape(shape, from)],
      ['audit', entry, ({ store }) => store.operator.appendAudit([entry])],
      ['try a write', null, ({ store }) => store.tryWrite()],
    ];
    const [name, what, run] = this.#chance.pick(commands);
    const andState = async (subject: Subject) => {
      const answer = await run(subject);
      const state = await subject.store.streamState();
      [this.#epoch, this.#layout] = [state.epoch, state.layout];
      return [answer, ordered(state)];
    };
    return [name, what, andState];
  }
}

/** Identities are random: whether there is one. */
function hasIdentity<T>(answer: T): T {
  return replaced(answer, 'identity', (identity) => identity !== null);
}

function ordered(state: Awaited<ReturnType<Store['streamState']>>) {
  const halts = state.halts.toSorted((one, other) => (one.shard ?? -1) - (other.shard ?? -1));
  return hasIdentity({ ...state, halts });
}

/** A copy in which each value with this name is another one. */
function replaced<T>(value: T, name: string, by: (value: unknown) => unknown): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((one) => replaced(one, name, by)) as T;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, key === name ? by(one) : replaced(one, name, by)])) as T;
}

async function all<T>(source: AsyncIterable<T>): Promise<readonly T[]> {
  const found: T[] = [];
  for await (const one of source) found.push(one);
  return found;
}

async function compare(t: TestContext, seeds: number, open: (options: StoreOptions) => Store): Promise<void> {
  const reached = new Set<string>();
  for (let seed = 1; seed <= seeds; seed++) {
    const initialVersion: InitialVersion = seed % 3 === 0 ? -1 : 0;
    const options = { stream: uniqueStream('trace'), idempotencyTtlSeconds: 3_600, initialVersion };
    const store = open(options);
    try {
      await new Trace(seed, options, new ManualTime(Date.UTC(2026, 0, 1)), store, reached).run();
    } catch (error) {
      t.diagnostic(`seed ${seed}`);
      throw error;
    } finally {
      await store.close();
    }
  }
  assert.deepEqual(
    sometimes.filter((one) => !reached.has(one)),
    [],
    'never happened',
  );
}

test('Redis answers as the memory store does', async (t) => {
  const { redisUrl } = await useServices(t);
  await compare(t, 40, (options) => createRedisStore({ ...options, url: redisUrl }));
});

test('PostgreSQL answers as the memory store does', needsPostgres, async (t) => {
  const url = await usePostgres();
  await compare(t, 10, (options) => createPostgresStore({ ...options, url }));
});
