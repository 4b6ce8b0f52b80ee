/**
 * The store in Redis 6.2 or later: one server, behind sentinels, or a cluster.
 *
 * Every operation on an entity is one atomic script (`scripts/`); a batch is one round trip. The scripts decide; this class
 * turns batches into their arguments and replies into results. The outcome of a call that rejects is unknown; the tokens of
 * commits make it safe to ask again.
 *
 * What Redis itself loses is lost: with `appendfsync everysec` a power cut can cost about a second of commits, and a fail-over
 * what the replica had not received. With DURABILITY `durability.ts` waits for the disk or the replica.
 */
import type { EntityRef } from '../../events/event.ts';
import type { Durability } from '../../config/config.ts';
import type { Finding } from '../../finding.ts';
import type { Log } from '../../observability/log.ts';
import { awaitedSequence, deadLetterTtlMs, keptRecord, maxDeadLettersPerEntity } from '../../ordering/entity-rules.ts';
import { systemTime } from '../../time.ts';
import type { OperatorStore, DeadLetterHistory, DeadLetterQuery, EntitySummary, Halt, LoadResult, Store, StoreOptions } from '../store.ts';
import type { Claim, Commit, DeadLetterRecord, InitialVersion, Park, LookupQuery } from '../../ordering/entity.ts';
import { Connection, type Command, type Reply } from './connection.ts';
import { Durable } from './durability.ts';
import { scanEntities } from './entity-scan.ts';
import { entityFailure, isEntityFailure, unavailable } from './failures.ts';
import { inspectServers } from './inspection.ts';
import { idField, Keys, sequenceField } from './keys.ts';
import { RedisOperatorStore } from './redis-operator-store.ts';
import { parseRedisUrl } from './redis-url.ts';
import {
  readClaim,
  readCommit,
  readDeadLetter,
  readPark,
  readLookup,
  readSnapshot,
  snapshotFields,
  writeParked,
  writeResult,
} from './replies.ts';
import { loadScript, runScript, type Script, withTimes } from './script.ts';
import { RedisStreamState } from './stream-state.ts';

export interface RedisStoreOptions extends StoreOptions {
  /** One of the forms of `redis-url.ts`. */
  readonly url: string;
  /** How long one command, and the first connection, may take, in milliseconds. Default 5000. */
  readonly commandTimeoutMs?: number;
  /** Logs events of the connection, never arguments, values or credentials. Default: none. */
  readonly log?: Pick<Log, 'info' | 'warn'>;
  /** What must have a commit, beside the server's memory, before it counts; not for a cluster. Default: nothing. */
  readonly durability?: Durability;
  /** Called whenever a lost connection is back. */
  readonly onReconnect?: () => void;
}

const defaultCommandTimeoutMs = 5_000;

/** After this many sequences of an entity some of its records are checked for expiry, four times as many as were added. */
const trimEvery = 64;
const trimStretch = 512;

const logPage = 500;

const commitScript = loadScript('commit-3');
const claimScript = loadScript('claim-1');
const parkScript = loadScript('park-1');
const lookupScript = loadScript('lookup-2');
const recordDeadLetterScript = loadScript('record-dead-letter-2');

/** Connects at once, in the background. Throws `ConfigError` when the URL is invalid. */
export function createRedisStore(options: RedisStoreOptions): Store {
  const { log, onReconnect, durability = { kind: 'none' }, commandTimeoutMs = defaultCommandTimeoutMs, time = systemTime } = options;
  const target = parseRedisUrl(options.url);
  const connection = new Connection({ target, commandTimeoutMs, log, onReconnect, time });
  const connect = () => new Connection({ target, commandTimeoutMs, log, onReconnect: undefined, time });
  const durable = new Durable({
    durability,
    main: connection,
    connect,
    key: new Keys(options.stream).kept,
    waitMs: Math.floor(commandTimeoutMs / 2),
  });
  return new RedisStore(connection, durable, { ...options, durability });
}

class RedisStore implements Store {
  readonly #connection: Connection;
  readonly #durable: Durable;
  readonly #durability: Durability;
  readonly #keys: Keys;
  readonly #streamState: RedisStreamState;
  readonly #idTtlMs: string;
  readonly #initialVersion: InitialVersion;
  readonly operator: OperatorStore;

  constructor(connection: Connection, durable: Durable, options: StoreOptions & { readonly durability: Durability }) {
    this.#connection = connection;
    this.#durable = durable;
    this.#durability = options.durability;
    this.#keys = new Keys(options.stream);
    this.#streamState = new RedisStreamState(connection, this.#keys);
    this.#initialVersion = options.initialVersion ?? 0;
    this.operator = new RedisOperatorStore(connection, this.#keys, this.#streamState, this.#initialVersion);
    this.#idTtlMs = String(Math.ceil(options.idempotencyTtlSeconds * 1000));
  }

  async load(entities: readonly EntityRef[]): Promise<readonly LoadResult[]> {
    const keys = entities.map((entity) => this.#keys.entity(entity));
    const replies = await withTimes(
      this.#connection,
      keys,
      await this.#connection.send(keys.map((key): Command => ['HMGET', key, ...snapshotFields])),
    );
    return this.#read(replies, keys, (reply) => ({ status: 'ok', snapshot: readSnapshot(reply, this.#initialVersion) }));
  }

  async commit(commits: readonly Commit[]) {
    const calls = commits.map((commit) => this.#commitArguments(commit));
    return this.#run(commitScript, calls, readCommit);
  }

  async claim(claims: readonly Claim[]) {
    const calls = claims.map((claim) => [this.#keys.entity(claim), String(claim.shard), String(claim.epoch), claim.session]);
    return this.#run(claimScript, calls, readClaim);
  }

  async park(parks: readonly Park[]) {
    const calls = parks.map((park) => [
      this.#keys.entity(park),
      String(park.shard),
      String(park.epoch),
      String(park.expectedVersion),
      writeParked(park),
      String(park.sequence),
      park.session,
      String(this.#initialVersion),
    ]);
    return this.#run(parkScript, calls, readPark);
  }

  async lookUp(queries: readonly LookupQuery[]) {
    const field = (query: LookupQuery): string => (query.sequence === null ? idField(query.id) : sequenceField(query.sequence));
    const calls = queries.map((query) => [this.#keys.entity(query), this.#keys.ids(query), field(query), String(this.#initialVersion)]);
    return this.#run(lookupScript, calls, readLookup);
  }

  async *readLog(entity: EntityRef): AsyncGenerator<string> {
    const key = this.#keys.log(entity);
    for (let from = 0; ; from += logPage) {
      const page = (await this.#connection.ask(['LRANGE', key, String(from), String(from + logPage - 1)])) as readonly string[];
      yield* page;
      if (page.length < logPage) return;
    }
  }

  /** If an entity's own key is unusable, its records are stored like those of messages without an entity. */
  recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void> {
    return this.#durable.keep(() => this.#recordDeadLetters(records));
  }

  async #recordDeadLetters(records: readonly DeadLetterRecord[]): Promise<void> {
    const failures = await this.#writeDeadLetters(records, (record) => [this.#keys.deadLetters(record), awaitedSequence(record)]);
    for (const { error } of failures) if (!isEntityFailure(error)) throw unavailable(this.#connection.where, error);
    const [failed] = await this.#writeDeadLetters(
      failures.map(({ record }) => record),
      (record) => [this.#keys.deadLetters(ofNoEntity(record)), null],
    );
    if (failed !== undefined) throw unavailable(this.#connection.where, failed.error);
  }

  async findDeadLetters(queries: readonly DeadLetterQuery[]) {
    const found = await this.#readDeadLetters(queries);
    const missing = queries.filter((query, index) => found[index] == null && query.entityId !== null);
    const elsewhere = (await this.#readDeadLetters(missing.map(ofNoEntity))).values();
    return queries.map((query, index) => found[index] ?? (query.entityId === null ? null : (elsewhere.next().value ?? null)));
  }

  nextEpoch(shard: number) {
    return this.#durable.keep(() => this.#streamState.nextEpoch(shard));
  }

  streamState() {
    return this.#streamState.read();
  }

  identify(): Promise<string> {
    return this.#durable.keep(() => this.#streamState.identify());
  }

  halt(halt: Halt): Promise<void> {
    return this.#durable.keep(() => this.#streamState.halt(halt));
  }

  /** An entity may be listed twice when Redis moves its keys meanwhile. */
  listEntities(filter: { readonly entityType?: string }): AsyncIterable<EntitySummary> {
    return scanEntities(this.#connection, this.#keys, filter.entityType, this.#initialVersion);
  }

  inspect(): Promise<readonly Finding[]> {
    return inspectServers(this.#connection, this.#durability);
  }

  async ping(): Promise<void> {
    await this.#connection.askMasters(['PING']);
  }

  async close(): Promise<void> {
    await Promise.all([this.#connection.close(), this.#durable.close()]);
  }

  /** Returns the records that could not be written. */
  async #writeDeadLetters(
    records: readonly DeadLetterRecord[],
    placeOf: (record: DeadLetterRecord) => readonly [key: string, awaited: number | null],
  ): Promise<{ record: DeadLetterRecord; error: Error }[]> {
    const limits = [String(deadLetterTtlMs), String(maxDeadLettersPerEntity)];
    const calls = records.map((record) => {
      const [key, awaited] = placeOf(record);
      const { entityType, entityId, fingerprint } = record;
      // Without a waiting entity the second key is not used, but it must be in the slot of the first.
      const entity = awaited === null || entityType === null || entityId === null ? null : this.#keys.entity({ entityType, entityId });
      return [
        key,
        entity ?? key,
        fingerprint,
        JSON.stringify(keptRecord(record)),
        ...limits,
        entity === null ? '' : String(awaited),
        String(this.#initialVersion),
      ];
    });
    const replies = await runScript(this.#connection, recordDeadLetterScript, calls);
    return records.flatMap((record, index) => {
      const error = replies[index]?.[0];
      return error ? [{ record, error }] : [];
    });
  }

  async #readDeadLetters(queries: readonly DeadLetterQuery[]): Promise<(DeadLetterHistory | null)[]> {
    const replies = await this.#connection.send(
      queries.map((query): Command => ['HGET', this.#keys.deadLetters(query), query.fingerprint]),
    );
    return replies.map(([error, value]) => {
      if (error && !isEntityFailure(error)) throw unavailable(this.#connection.where, error);
      // An unusable record counts as unknown.
      return error || typeof value !== 'string' ? null : readDeadLetter(value);
    });
  }

  #commitArguments(commit: Commit): string[] {
    const { events, state } = commit;
    const trims = events.filter((event) => event.sequence % trimEvery === 0).length;
    const call = [
      this.#keys.entity(commit),
      this.#keys.ids(commit),
      this.#keys.log(commit),
      commit.token,
      String(commit.expectedVersion),
      commit.expectedHoles,
      String(commit.newVersion),
      commit.newHoles,
      state === null ? '0' : '1',
      state ?? '',
      this.#idTtlMs,
      String(trims * trimStretch),
      String(this.#initialVersion),
      '0',
    ];
    const countAt = call.length - 1;
    for (const { log } of events) if (log !== undefined) call.push(log);
    call[countAt] = String(call.length - 1 - countAt);
    for (const event of events) {
      const field = event.recordId && !event.consumed ? idField(event.id) : '';
      call.push(String(event.sequence), field, event.payloadHash, writeResult(event.result));
    }
    return call;
  }

  /** Waits for durability after writes, and after reads that lead to an acknowledgement. */
  async #run<T>(
    script: Script,
    calls: readonly (readonly string[])[],
    read: (reply: unknown, initialVersion: InitialVersion) => T,
  ): Promise<(T | { status: 'failed'; error: Error })[]> {
    if (calls.length === 0) return [];
    return this.#durable.keep(async () =>
      this.#read(await runScript(this.#connection, script, calls), firstOf(calls), (reply) => read(reply, this.#initialVersion)),
    );
  }

  /** A failure of one entity is its result; any other failure is the failure of the call. */
  #read<T>(replies: readonly Reply[], keys: readonly string[], read: (reply: unknown) => T): (T | { status: 'failed'; error: Error })[] {
    return replies.map(([error, value], index) => {
      try {
        if (error) throw error;
        return read(value);
      } catch (problem) {
        const failure = problem as Error;
        if (!isEntityFailure(failure)) throw unavailable(this.#connection.where, failure);
        return { status: 'failed', error: entityFailure(keys[index] ?? '', failure) };
      }
    });
  }
}

function ofNoEntity({ fingerprint }: DeadLetterQuery): DeadLetterQuery {
  return { fingerprint, entityType: null, entityId: null };
}

function firstOf(calls: readonly (readonly string[])[]): string[] {
  return calls.map(([key = '']) => key);
}
