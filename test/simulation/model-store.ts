/**
 * The store of a simulated stream: the memory store, reached over a network that loses requests and answers, delivers requests long
 * after their sender has given up, and at times not at all. What was really executed is told to the ledger.
 *
 * It may lose what it has: its last writes, the keys of an entity, those of the epochs, or everything. Then a copy that was made from the
 * other writes, in their order, takes its place; some workers may be stranded at the old one for a while, and write into the void.
 */
import { UnavailableError } from '../../src/errors.ts';
import type { EntityRef } from '../../src/events/event.ts';
import type { Claim, Commit, CommitResult, LookupQuery, LookupResult, Park, ParkResult } from '../../src/ordering/entity.ts';
import type { StreamRecord, StreamRecordKeeper } from '../../src/rabbitmq/stream-record.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { EpochResult, Store, StreamState } from '../../src/stores/store.ts';
import { Account } from './ledger.ts';
import { type Machine, startOfTimeMs } from './virtual-time.ts';
import type { World } from './world.ts';

const timeoutMs = 1_000;
const longestLateMs = 8_000;
/** A worker knows of a replay by then: it has read the entity again. */
const noticedWithinMs = 2_000;

/** Something that was written. */
export interface Write {
  readonly number: number;
  readonly atMs: number;
  readonly entityId: string | null;
  /** Into the stream's own keys: the epoch, the identity and the halts. */
  readonly isStreams: boolean;
  readonly into: (copy: StoreCopy) => Promise<unknown>;
}

/** One copy of the store, with all that was written into it. */
class StoreCopy {
  readonly store: Store;
  readonly account: Account;
  readonly writes: Write[] = [];
  #writing: Write | null = null;

  constructor(world: World) {
    this.account = new Account(world.ledger);
    const time = {
      ...world.machine('store').time,
      wallMs: () => startOfTimeMs + (this.#writing?.atMs ?? world.schedule.nowMs),
      uuid: () => `store-${this.#writing?.number}`,
    };
    this.store = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 86_400, time });
  }

  async write(write: Write): Promise<unknown> {
    this.writes.push(write);
    this.#writing = write;
    const result = await write.into(this);
    this.#writing = null;
    return result;
  }
}

/** What a worker knows of the store, by the answers that it was given. */
interface Knowledge {
  readonly identity: string | null;
  readonly epoch: number;
  /** Why it may write nothing more; null while it may. */
  readonly wentBackwards: string | null;
}

interface Client {
  readonly reconnected: () => void;
  /** Shards that are being halted: the worker then asks about the store for other reasons than to look. */
  halting: number;
  /** Null until it has read the broker's record. */
  knowledge: Knowledge | null;
  /** It takes the store for the stream's. */
  hasBegun: boolean;
  /** It has had a copy that was replaced: what it makes of it is its own affair. */
  wasStranded: boolean;
  /** How often an operator had ended halts when it began. */
  readonly generation: number;
  /** Shards of which the broker had a halt on record when a session began. */
  readonly barred: Set<number>;
  /** Sessions that were told that another owner has taken over. */
  readonly fenced: Set<string>;
}

const everyShard = 'every shard is halted';
const nothing: Knowledge = { identity: null, epoch: 0, wentBackwards: null };

export class ModelStore {
  isDown = false;
  /** Entities whose keys cannot be used. */
  readonly unusable = new Set<string>();
  /** The write of the epoch that was given out last, and to whom. */
  lastEpoch: { readonly number: number; readonly machine: Machine } | null = null;
  readonly #givenOut = new Set<number>();
  readonly #world: World;
  #copy: StoreCopy;
  #old: { readonly copy: StoreCopy; readonly machines: ReadonlySet<Machine> } | null = null;
  #writes = 0;
  /** Why gaps may not end whose end was asked for; null where they may. */
  readonly #tooEarly = new Map<string, string | null>();
  /** Since when entities are replayed, or were last. */
  readonly #replayedFromMs = new Map<string, number>();
  #record: StreamRecord = { generation: 0, isOlder: false, identity: null, epoch: 0, halts: [] };
  /** The workers. */
  readonly #clients = new Map<Machine, Client>();

  constructor(world: World) {
    this.#world = world;
    this.#copy = new StoreCopy(world);
    world.ledger.account = this.#copy.account;
  }

  /** For whoever looks without a network. */
  get inside(): Store {
    return this.#copy.store;
  }

  /** How often an operator has ended halts. */
  get generation(): number {
    return this.#record.generation;
  }

  get isHalted(): boolean {
    return this.#record.halts.length > 0;
  }

  /** Only the writes that are `kept` are left. The machines that are `stranded` have the old copy for so long. */
  async lose(kept: (write: Write) => boolean, stranded: readonly Machine[] = [], forMs = 0): Promise<void> {
    const { schedule, ledger, latencyMs } = this.#world;
    const old = this.#copy;
    const copy = new StoreCopy(this.#world);
    for (const write of old.writes) if (kept(write)) await copy.write(write);
    this.#copy = copy;
    ledger.account = copy.account;
    ledger.lossAtMs = schedule.nowMs;
    this.#world.note('store', 'lost', `${old.writes.length - copy.writes.length} of ${old.writes.length} writes`);
    this.#old = { copy: old, machines: new Set(stranded) };
    for (const machine of stranded) Object.assign(this.#clients.get(machine) ?? {}, { wasStranded: true });
    const reconnect = (machine: Machine) => schedule.after(latencyMs(), () => machine.do(() => this.#clients.get(machine)?.reconnected()));
    for (const machine of this.#clients.keys()) if (!stranded.includes(machine)) reconnect(machine);
    schedule.after(forMs, () => {
      this.#old = null;
      stranded.forEach(reconnect);
    });
  }

  /** The store as this process reaches it; a worker is told when it is connected again. */
  seenFrom(machine: Machine, reconnected: (() => void) | null = null): Store {
    if (reconnected !== null)
      this.#clients.set(machine, {
        reconnected,
        halting: 0,
        knowledge: null,
        hasBegun: false,
        wasStranded: false,
        generation: 0,
        barred: new Set(),
        fenced: new Set(),
      });
    const ask = <R>(what: string, serve: (copy: StoreCopy) => Promise<R>) => this.#ask(machine, what, serve);
    const write = <Item extends { readonly entityId: string | null }, R>(
      what: string,
      items: readonly Item[],
      into: (copy: StoreCopy, item: Item) => Promise<R>,
    ) => ask(what, (copy) => this.#write(copy, items, into));
    const own = <R>(what: string, into: (copy: StoreCopy) => Promise<R>): Promise<R> =>
      ask(what, async (copy) => (await this.#write(copy, [{ entityId: null }], into, true))[0]!);
    const inside = () => this.#copy.store;
    return {
      readLog: (entity) => inside().readLog(entity),
      listEntities: (filter) => inside().listEntities(filter),
      inspect: () => inside().inspect(),
      ping: () => inside().ping(),
      tryWrite: () => inside().tryWrite(),
      close: async () => {},
      operator: {
        beginReplay: (replays, leaseMs) =>
          write('begin a replay', replays, async ({ store }, one) => {
            const [before] = await store.load([one]);
            const isUnderWay = before?.status === 'ok' && before.snapshot.parked?.replaying === true;
            if (!isUnderWay) this.#replayedFromMs.set(one.entityId, this.#world.schedule.nowMs);
            return (await store.operator.beginReplay([one], leaseMs))[0]!;
          }),
        noteReplays: async (messages) =>
          void (await write('note a replay', messages, ({ store }, one) => store.operator.noteReplays([one]))),
        resume: (epoch) =>
          ask('resume', async (copy) => {
            const [state] = await this.#write(copy, [{ entityId: null }], ({ store }) => store.operator.resume(epoch), true);
            // A halt that nobody has put on record ends with this.
            if (!this.isHalted) this.#isAccepted();
            return state!;
          }),
        changeShape: (shape, from) => own('change the shape', ({ store }) => store.operator.changeShape(shape, from)),
        appendAudit: (entries) => own('audit', ({ store }) => store.operator.appendAudit(entries)),
        readAudit: () => inside().operator.readAudit(),
      },
      load: (entities) => ask('load', ({ store }) => this.#each(entities, (usable) => store.load(usable))),
      lookUp: (queries) => ask('look up', (copy) => this.#each(queries, (usable) => this.#lookUp(machine, copy, usable))),
      claim: (claims) =>
        this.#asOwner(machine, claims, () =>
          ask('claim', (copy) => this.#each(claims, (usable) => this.#write(copy, usable, claim(this.#world)))),
        ),
      park: (parks) => {
        this.#asksToPark(machine, parks);
        return this.#asOwner(machine, parks, () =>
          ask('park', (copy) => this.#each(parks, (usable) => this.#write(copy, usable, (one, it) => this.#park(machine, one, it)))),
        );
      },
      commit: (commits) => {
        this.#mayWrite(machine, commits);
        return ask('commit', (copy) => this.#each(commits, (usable) => this.#commit(machine, copy, usable)));
      },
      recordDeadLetters: async (records) => {
        await write('record', records, async ({ store }, one) => {
          await store.recordDeadLetters([one]);
          this.#world.ledger.recorded(one.id, one.reason, machine.name);
        });
        for (const { reason } of records) {
          if (reason === 'entity_parked') this.#world.sometimes('an event followed its predecessors into the dead letters');
          if (reason === 'handler_failed') this.#world.sometimes('a handler failed for good');
          if (reason === 'process_killed') this.#world.sometimes('an event that ends the process was found');
          if (reason === 'process_blocked') this.#world.sometimes('an event that blocks the process was found');
          if (reason === 'out_of_order') this.#world.sometimes('an early event was rejected at once');
          if (reason === 'late') this.#world.sometimes('an event was late');
          if (reason === 'sequence_conflict') this.#world.sometimes('another event had the sequence');
        }
      },
      findDeadLetters: (queries) => ask('find', ({ store }) => store.findDeadLetters(queries)),
      nextEpoch: (shard) =>
        this.#nextEpoch(machine, shard, () =>
          ask('next epoch', async (copy) => {
            const [result] = await this.#write(copy, [{ entityId: null }], ({ store }) => store.nextEpoch(shard), true);
            if (result?.status === 'ok') this.#gaveOut(result.epoch, machine);
            return result!;
          }),
        ),
      streamState: () => this.#streamState(machine, () => ask('state', ({ store }) => store.streamState())),
      noteSession: (shard, epoch, note) => own('note a session', ({ store }) => store.noteSession(shard, epoch, note)),
      recordLayout: (shape) => own('record layout', ({ store }) => store.recordLayout(shape)),
      identify: async () => {
        const identity = await own('identify', ({ store }) => store.identify());
        Object.assign(this.#clients.get(machine) ?? {}, { hasBegun: true });
        return identity;
      },
      halt: (halt) => own('halt', ({ store }) => store.halt(halt)),
    };
  }

  /** For what a worker asks beside its own business: nothing follows from it for the worker. */
  glanceFrom(machine: Machine): Pick<Store, 'streamState' | 'lookUp'> {
    return {
      streamState: () => this.#ask(machine, 'state', ({ store }) => store.streamState()),
      lookUp: (queries) => this.#ask(machine, 'look up', ({ store }) => this.#each(queries, (usable) => store.lookUp(usable))),
    };
  }

  /** The broker's record of this store. */
  recordSeenFrom(machine: Machine): Pick<StreamRecordKeeper, 'read' | 'change' | 'trouble'> {
    const { schedule, latencyMs } = this.#world;
    const change: StreamRecordKeeper['change'] = (next) =>
      new Promise<StreamRecord>((resolve) => {
        const execute = () => {
          const changed = next(this.#record);
          if (changed !== null && changed.generation > this.#record.generation) this.#isAccepted();
          this.#record = changed ?? this.#record;
          const record = this.#record;
          const hand = () => {
            const client = this.#clients.get(machine);
            // With this it begins, or tries to once more; later it compares with what it has seen itself.
            if (client !== undefined && !client.hasBegun && client.knowledge?.wentBackwards == null)
              client.knowledge = { ...nothing, identity: record.identity, epoch: record.epoch };
            resolve(record);
          };
          schedule.after(latencyMs(), () => machine.do(hand));
        };
        schedule.after(latencyMs(), () => machine.do(execute));
      });
    return { trouble: null, read: () => change(() => null), change };
  }

  /** By an operator, as it is: whatever a worker knew of another one counts no longer. */
  #isAccepted(): void {
    for (const client of this.#clients.values()) {
      client.knowledge = nothing;
      client.barred.clear();
    }
  }

  /** It stops, and looks at nothing any more: what is in flight ends as it may. */
  leaves(machine: Machine): void {
    this.#clients.delete(machine);
  }

  /** A shard of this worker halts: `record` resolves when that is on record, where the others see it. */
  async halts(machine: Machine, shard: number, record: () => Promise<void>): Promise<void> {
    const { generation } = this;
    const client = this.#clients.get(machine);
    if (client === undefined) return record();
    // Who has slept while an operator ended a halt finds another store than it knew: it halts alone, and goes on by itself.
    const isOutdated = client.generation !== generation;
    client.halting++;
    await record();
    client.halting--;
    // Or a session that begins can tell by the record that this is not the store as it was.
    const { identity, epoch, halts } = await this.#copy.store.streamState();
    const isTold = identity !== this.#record.identity || epoch < this.#record.epoch;
    const isOnRecord = [...halts, ...this.#record.halts].some((halt) => halt.shard === null || halt.shard === shard);
    const mayBeAlone = isOutdated || client.wasStranded || generation !== this.generation;
    if (!isTold && !isOnRecord && !mayBeAlone && this.#clients.has(machine))
      this.#world.ledger.fail('a halt is not on record', `shard ${shard} of ${machine.name}`);
  }

  /** A session that was fenced asks for nothing more. */
  async #asOwner<R extends { readonly status: string }>(
    machine: Machine,
    items: readonly (Claim | Park)[],
    ask: () => Promise<readonly R[]>,
  ): Promise<readonly R[]> {
    this.#mayWrite(machine, items);
    const fenced = this.#clients.get(machine)?.fenced;
    const nameOf = ({ shard, epoch, session }: Claim | Park) => `${shard} ${epoch} ${session}`;
    const [first] = items;
    if (first !== undefined && fenced?.has(nameOf(first)) === true)
      this.#world.ledger.fail('an overtaken owner goes on', `${machine.name}, shard, epoch and session ${nameOf(first)}`);
    const results = await ask();
    if (first !== undefined && results.some(({ status }) => status === 'fenced')) fenced?.add(nameOf(first));
    return results;
  }

  /** A session that began when a halt of its shard was on record begins nothing. */
  #mayWrite(machine: Machine, items: readonly EntityRef[]): void {
    const { ledger } = this.#world;
    const barred = this.#clients.get(machine)?.barred;
    if (barred === undefined || barred.size === 0) return;
    const one = items.find(({ entityId }) => barred.has(ledger.letters.get(`${entityId}-1`)?.shard ?? -1));
    if (one !== undefined) ledger.fail('a session began although its shard was halted', `${machine.name}, ${one.entityId}`);
  }

  #ask<R>(machine: Machine, what: string, serve: (copy: StoreCopy) => Promise<R>): Promise<R> {
    const { schedule, ledger } = this.#world;
    const fate = this.#fate(what);
    const why = this.#clients.get(machine)?.knowledge?.wentBackwards;
    if (why != null && ['commit', 'claim', 'park', 'record'].includes(what))
      ledger.fail('a worker went on with a store that went backwards', `${machine.name}, ${what}: ${why}`);
    return new Promise((resolve, reject) => {
      const timer = schedule.after(timeoutMs, () =>
        machine.do(() => reject(new UnavailableError(`the store did not answer within ${timeoutMs} ms`))),
      );
      const execute = async () => {
        if (this.isDown) return;
        this.#world.note(machine.name, what, fate);
        const isStranded = this.#old?.machines.has(machine) === true;
        const result = await serve(isStranded ? this.#old!.copy : this.#copy);
        if (isStranded && what === 'commit') this.#world.sometimes('a commit went to a store that was replaced');
        if (fate === 'reply lost') return;
        if (fate === 'late' && what === 'commit') this.#world.sometimes('a commit was executed after its sender had given up');
        if (fate === 'late') return;
        schedule.after(this.#world.latencyMs(), () => {
          timer.cancel();
          machine.do(() => resolve(result));
        });
      };
      if (fate === 'request lost') return;
      const lateMs = fate === 'late' ? timeoutMs + this.#world.chance.between(0, longestLateMs) : 0;
      schedule.after(lateMs + this.#world.latencyMs(), () => void execute());
    });
  }

  /** A park that is executed late has to be refused once its session was overtaken; parks are rare, so one in five is late. */
  #fate(what: string): 'served' | 'request lost' | 'reply lost' | 'late' {
    if (this.#world.strikes('requests lost', 0.02)) return 'request lost';
    if (this.#world.strikes('replies lost', 0.02)) return 'reply lost';
    return this.#world.strikes('late execution', what === 'park' ? 0.2 : 0.02) ? 'late' : 'served';
  }

  /** Judged is why it was asked for when it was, and not when it is carried out. */
  #asksToPark(machine: Machine, parks: readonly Park[]): void {
    for (const { shard, epoch, session, entityId, expectedVersion, reason } of parks) {
      const name = `${shard} ${epoch} ${session} ${entityId} ${expectedVersion}`;
      if (reason !== 'gap_timeout' || this.#tooEarly.has(name)) continue;
      this.#tooEarly.set(name, this.#world.ledger.whyGapMayNotEnd(machine.name, { shard, entityId, missing: expectedVersion + 1 }));
    }
  }

  async #each<Item extends EntityRef, R>(
    items: readonly Item[],
    serve: (usable: readonly Item[]) => Promise<readonly R[]>,
  ): Promise<readonly (R | { readonly status: 'failed'; readonly error: Error })[]> {
    const results = await serve(items.filter(({ entityId }) => !this.unusable.has(entityId)));
    let at = 0;
    return items.map(({ entityId }) =>
      this.unusable.has(entityId) ? { status: 'failed', error: new Error('the key is of the wrong type') } : results[at++]!,
    );
  }

  async #write<Item extends { readonly entityId: string | null }, R>(
    copy: StoreCopy,
    items: readonly Item[],
    into: (copy: StoreCopy, item: Item) => Promise<R>,
    isStreams = false,
  ): Promise<R[]> {
    const { nowMs: atMs } = this.#world.schedule;
    const results: R[] = [];
    for (const item of items) {
      const write: Write = { number: ++this.#writes, atMs, entityId: item.entityId, isStreams, into: (other) => into(other, item) };
      results.push((await copy.write(write)) as R);
    }
    return results;
  }

  async #commit(machine: Machine, copy: StoreCopy, commits: readonly Commit[]): Promise<readonly CommitResult[]> {
    const world = this.#world;
    const results = await this.#write(copy, commits, commit(world));
    results.forEach((result, index) => {
      const { token, events } = commits[index]!;
      world.note('store', `commit ${result.status}`, token);
      if (result.status === 'ok' && result.unparked) world.sometimes('a parking ended');
      if (result.status === 'duplicate') world.sometimes('a commit was sent again and had gone through');
      if (result.status === 'stale') world.sometimes('a stale owner: commit refused');
      if (result.status === 'ok' || result.status === 'duplicate')
        for (const { id } of events) world.ledger.told(machine.name, { account: copy.account, id });
      if (result.status !== 'conflict') return;
      for (const { index, samePayload } of result.conflicts) {
        const { id } = events[index]!;
        if (samePayload) world.ledger.told(machine.name, { account: copy.account, id });
        if (world.ledger.letters.get(id)?.isUnsequenced) world.sometimes('an event without a sequence came twice');
      }
    });
    return results;
  }

  async #park(machine: Machine, { store, account }: StoreCopy, one: Park): Promise<ParkResult> {
    const world = this.#world;
    const isForWant = one.reason === 'gap_timeout' || one.reason === 'buffer_overflow';
    // Unless a replay was under way, a reading has told before that the entity is parked.
    const [before] = world.isCalm && isForWant ? await store.load([one]) : [];
    const parked = before?.status === 'ok' ? before.snapshot.parked : null;
    const result = (await store.park([one]))[0]!;
    world.note('store', `park ${result.status}`, `${one.entityId} ${one.reason}`);
    if (result.status === 'fenced') world.sometimes('a stale owner: park fenced');
    if (result.status === 'stale') world.sometimes('a park came too late');
    if (result.status !== 'ok') return result;
    account.parked(one, world.isCalm);
    const { shard, epoch, session, entityId, expectedVersion } = one;
    const why = this.#tooEarly.get(`${shard} ${epoch} ${session} ${entityId} ${expectedVersion}`) ?? null;
    if (why !== null && one.reason === 'gap_timeout') world.ledger.fail(why, `${entityId}: ${expectedVersion + 1}, by ${machine.name}`);
    if (parked?.replaying === false) world.ledger.fail('an event was held although its entity was parked', `${entityId}: ${one.sequence}`);
    const replayedForMs = world.schedule.nowMs - (this.#replayedFromMs.get(entityId) ?? world.schedule.nowMs);
    if (parked?.replaying === true && one.reason === 'gap_timeout' && replayedForMs > noticedWithinMs)
      world.ledger.fail('a gap ended while its entity was being replayed', `${entityId}: ${expectedVersion + 1}`);
    if (world.isCalm && one.reason === 'gap_timeout') world.ledger.endedGap(machine.name, one.shard);
    if (one.reason === 'gap_timeout') world.sometimes('a gap was parked');
    if (one.reason === 'buffer_overflow') world.sometimes('a limit ended a gap early');
    return result;
  }

  async #lookUp(machine: Machine, copy: StoreCopy, queries: readonly LookupQuery[]): Promise<readonly LookupResult[]> {
    const results = await copy.store.lookUp(queries);
    results.forEach(({ status }, index) => {
      if (status === 'known') this.#world.ledger.told(machine.name, { account: copy.account, id: queries[index]!.id });
    });
    return results;
  }

  async #streamState(machine: Machine, ask: () => Promise<StreamState>): Promise<StreamState> {
    const [client, { generation }] = [this.#clients.get(machine), this];
    // As of now: what comes meanwhile may be newer than the answer.
    const before = client?.halting === 0 ? client.knowledge : null;
    const state = await ask();
    if (client === undefined || before === null || client.wasStranded || generation !== this.generation) return state;
    const isHalted = state.halts.some(({ shard }) => shard === null);
    // Then it asked before an operator had ended that halt, at a copy that did not know it.
    if (!isHalted && client.knowledge?.wentBackwards === everyShard) client.knowledge = { ...client.knowledge, wentBackwards: null };
    const why = isHalted ? everyShard : state.epoch < before.epoch ? `epoch ${state.epoch} after ${before.epoch}` : null;
    this.#learns(client, before, state, why);
    return state;
  }

  async #nextEpoch(machine: Machine, shard: number, ask: () => Promise<EpochResult>): Promise<EpochResult> {
    const [client, { generation }] = [this.#clients.get(machine), this];
    const before = client?.knowledge ?? nothing;
    if (this.#record.halts.some((halt) => halt.shard === null || halt.shard === shard)) client?.barred.add(shard);
    const result = await ask();
    if (client === undefined || client.wasStranded || generation !== this.generation) return result;
    const why = result.status === 'ok' && result.epoch <= before.epoch ? `epoch ${result.epoch} after ${before.epoch}` : null;
    if (result.status === 'ok') this.#learns(client, before, result, why);
    else if (result.halt.shard === null) this.#learns(client, before, before, everyShard);
    return result;
  }

  #gaveOut(epoch: number, machine: Machine): void {
    if (this.#givenOut.has(epoch)) this.#world.sometimes('an epoch was given out twice');
    this.#givenOut.add(epoch);
    this.lastEpoch = { number: this.#writes, machine };
  }

  #learns(client: Client, before: Knowledge, { identity, epoch }: Pick<Knowledge, 'identity' | 'epoch'>, why: string | null): void {
    const knowledge = client.knowledge ?? nothing;
    const isOther = before.identity !== null && identity !== before.identity;
    const wentBackwards = knowledge.wentBackwards ?? why ?? (isOther ? `${identity} in place of ${before.identity}` : null);
    if (wentBackwards !== null) this.#world.sometimes('a worker saw that the store went backwards');
    client.knowledge = { identity: knowledge.identity ?? identity, epoch: Math.max(knowledge.epoch, epoch), wentBackwards };
  }
}

function commit(world: World) {
  return async ({ store, account }: StoreCopy, one: Commit): Promise<CommitResult> => {
    const leaps = one.events.some(({ sequence }, at) => sequence > (one.events[at - 1]?.sequence ?? one.expectedVersion) + 1);
    const [before] = leaps ? await store.load([one]) : [];
    const result = (await store.commit([one]))[0]!;
    if (result.status === 'ok') {
      account.committed(one, world.isCalm);
      noteHow(world, one, leaps);
      if (world.isCalm && before?.status === 'ok' && before.snapshot.parked !== null)
        world.ledger.fail(
          'an event leapt over the dead letters of its entity',
          `${one.entityId}: ${one.expectedVersion} to ${one.newVersion}`,
        );
    }
    if (result.status === 'duplicate') account.wasDuplicate(one);
    return result;
  };
}

function noteHow(world: World, { events, expectedVersion, newVersion }: Commit, leaps: boolean): void {
  const { rule, letters } = world.ledger;
  if (events.some(({ id }) => letters.get(id)?.isUnsequenced)) world.sometimes('an event without a sequence was applied');
  if (events.some(({ consumed }) => consumed)) world.sometimes('an event was skipped, and the gap before it passed over');
  if (leaps && rule === 'log_and_process') world.sometimes('an event was applied before its predecessor');
  if (leaps && rule === 'skip-ahead') world.sometimes('a gap was leapt over when its time had come');
  if (newVersion === expectedVersion || events.some(({ sequence }) => sequence <= expectedVersion))
    world.sometimes('a late event has filled its hole');
}

function claim(world: World) {
  return async ({ store, account }: StoreCopy, one: Claim) => {
    const result = (await store.claim([one]))[0]!;
    if (result.status === 'ok') account.claimed(one);
    else world.sometimes('a stale owner: claim fenced');
    return result;
  };
}
