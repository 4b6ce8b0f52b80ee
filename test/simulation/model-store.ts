/**
 * The store of a simulated stream: the memory store, reached over a network that loses requests and answers, delivers requests long
 * after their sender has given up, and at times not at all. What was really executed is told to the ledger.
 */
import { UnavailableError } from '../../src/errors.ts';
import type { EntityRef } from '../../src/events/event.ts';
import type { Claim, Commit, CommitResult, Park } from '../../src/ordering/entity.ts';
import type { StreamRecord, StreamRecordKeeper } from '../../src/rabbitmq/stream-record.ts';
import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { Store } from '../../src/stores/store.ts';
import type { Machine } from './virtual-time.ts';
import type { World } from './world.ts';

const timeoutMs = 1_000;
const longestLateMs = 8_000;

export class ModelStore {
  /** For whoever looks without a network. */
  readonly inside: Store;
  isDown = false;
  /** Entities whose keys cannot be used. */
  readonly unusable = new Set<string>();
  readonly #world: World;
  #record: StreamRecord = { generation: 0, isOlder: false, identity: null, epoch: 0, halts: [] };

  constructor(world: World) {
    this.#world = world;
    const { time } = world.machine('store');
    this.inside = createMemoryStore({ stream: 's', idempotencyTtlSeconds: 86_400, time });
  }

  /** The store as this process reaches it. */
  seenFrom(machine: Machine): Store {
    const ask = <R>(what: string, serve: (store: Store) => Promise<R>) => this.#ask(machine, what, serve);
    const { inside } = this;
    return {
      readLog: (entity) => inside.readLog(entity),
      listEntities: (filter) => inside.listEntities(filter),
      inspect: () => inside.inspect(),
      ping: () => inside.ping(),
      tryWrite: () => inside.tryWrite(),
      close: async () => {},
      operator: {
        ...inside.operator,
        beginReplay: (replays, leaseMs) => ask('begin a replay', ({ operator }) => operator.beginReplay(replays, leaseMs)),
        noteReplays: (messages) => ask('note replays', ({ operator }) => operator.noteReplays(messages)),
      },
      load: (entities) => ask('load', (store) => this.#each(entities, (usable) => store.load(usable))),
      lookUp: (queries) => ask('look up', (store) => this.#each(queries, (usable) => store.lookUp(usable))),
      claim: (claims) => ask('claim', () => this.#each(claims, (usable) => this.#claim(usable))),
      park: (parks) => ask('park', () => this.#each(parks, (usable) => this.#park(usable))),
      commit: (commits) => ask('commit', () => this.#each(commits, (usable) => this.#commit(usable))),
      recordDeadLetters: (records) =>
        ask('record', async (store) => {
          await store.recordDeadLetters(records);
          for (const { id, reason } of records) {
            this.#world.ledger.recorded(id);
            if (reason === 'entity_parked') this.#world.sometimes('an event followed its predecessors into the dead letters');
            if (reason === 'handler_failed') this.#world.sometimes('a handler failed for good');
            if (reason === 'sequence_conflict') this.#world.sometimes('another event had the sequence');
          }
        }),
      findDeadLetters: (queries) => ask('find', (store) => store.findDeadLetters(queries)),
      nextEpoch: (shard) => ask('next epoch', (store) => store.nextEpoch(shard)),
      streamState: () => ask('state', (store) => store.streamState()),
      identify: () => ask('identify', (store) => store.identify()),
      halt: (halt) => ask('halt', (store) => store.halt(halt)),
    };
  }

  /** The broker's record of this store. */
  recordSeenFrom(machine: Machine): Pick<StreamRecordKeeper, 'read' | 'change' | 'trouble'> {
    const { schedule, latencyMs } = this.#world;
    const change: StreamRecordKeeper['change'] = (next) =>
      new Promise<StreamRecord>((resolve) => {
        const execute = () => {
          this.#record = next(this.#record) ?? this.#record;
          const record = this.#record;
          schedule.after(latencyMs(), () => machine.do(() => resolve(record)));
        };
        schedule.after(latencyMs(), () => machine.do(execute));
      });
    return { trouble: null, read: () => change(() => null), change };
  }

  #ask<R>(machine: Machine, what: string, serve: (store: Store) => Promise<R>): Promise<R> {
    const { schedule } = this.#world;
    const fate = this.#fate();
    return new Promise((resolve, reject) => {
      const timer = schedule.after(timeoutMs, () =>
        machine.do(() => reject(new UnavailableError(`the store did not answer within ${timeoutMs} ms`))),
      );
      const execute = async () => {
        if (this.isDown) return;
        this.#world.note(machine.name, what, fate);
        const result = await serve(this.inside);
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

  #fate(): 'served' | 'request lost' | 'reply lost' | 'late' {
    if (this.#world.strikes('requests lost', 0.02)) return 'request lost';
    if (this.#world.strikes('replies lost', 0.02)) return 'reply lost';
    return this.#world.strikes('late execution', 0.02) ? 'late' : 'served';
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

  async #commit(commits: readonly Commit[]): Promise<readonly CommitResult[]> {
    const world = this.#world;
    const results = await this.inside.commit(commits);
    results.forEach((result, index) => {
      const commit = commits[index]!;
      world.note('store', `commit ${result.status}`, commit.token);
      if (result.status === 'ok') {
        world.ledger.committed(commit);
        if (result.unparked) world.sometimes('a parking ended');
      } else if (result.status === 'duplicate') {
        world.ledger.wasDuplicate(commit);
        world.sometimes('a commit was sent again and had gone through');
      } else if (result.status === 'stale') world.sometimes('a stale owner: commit refused');
    });
    return results;
  }

  async #claim(claims: readonly Claim[]) {
    const results = await this.inside.claim(claims);
    results.forEach(({ status }, index) => {
      if (status === 'ok') this.#world.ledger.claimed(claims[index]!);
      else this.#world.sometimes('a stale owner: claim fenced');
    });
    return results;
  }

  async #park(parks: readonly Park[]) {
    const results = await this.inside.park(parks);
    results.forEach(({ status }, index) => {
      const park = parks[index]!;
      this.#world.note('store', `park ${status}`, `${park.entityId} ${park.reason}`);
      if (status === 'fenced') this.#world.sometimes('a stale owner: park fenced');
      if (status === 'stale') this.#world.sometimes('a park came too late');
      if (status !== 'ok') return;
      this.#world.ledger.parked(park, this.#world.isCalm);
      if (park.reason === 'gap_timeout') this.#world.sometimes('a gap was parked');
      if (park.reason === 'buffer_overflow') this.#world.sometimes('a limit ended a gap early');
    });
    return results;
  }
}
