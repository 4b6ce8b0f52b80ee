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
import {
  awaitedSequence,
  deadLetterTtlMs,
  keptRecord,
  maxDeadLettersPerEntity,
  maxRememberedReplays,
} from '../../ordering/entity-rules.ts';
import { systemTime } from '../../time.ts';
import type { TlsFiles } from '../../tls.ts';
import {
  type DeadLetterHistory,
  type DeadLetterQuery,
  type EntityReplaying,
  type EntitySummary,
  type Halt,
  inPages,
  type LoadResult,
  type OperatorStore,
  type Store,
  type StoreOptions,
} from '../store.ts';
import type { Claim, Commit, DeadLetterRecord, InitialVersion, Park, LookupQuery } from '../../ordering/entity.ts';
import type { StreamShape } from '../layout.ts';
import { Connection, type Command, type Reply } from './connection.ts';
import { Durable } from './durability.ts';
import { entityFailure, isEntityFailure, unavailable } from './failures.ts';
import { inspectServers } from './inspection.ts';
import { idField, Keys, sequenceField } from './keys.ts';
import { parseRedisUrl } from './redis-url.ts';
import {
  readClaim,
  readCommit,
  readDeadLetter,
  readLookup,
  readPark,
  readSnapshot,
  readSummary,
  snapshotFields,
  summaryFields,
  writeParked,
  writeResult,
} from './replies.ts';
import { type Call, loadScript, runScript, type Script, withTimes } from './script.ts';
import { RedisStreamState } from './stream-state.ts';

export interface RedisStoreOptions extends StoreOptions {
  /** One of the forms of `redis-url.ts`. */
  readonly url: string;
  /** For `rediss`. Default: the authorities that Node.js trusts, and no certificate of the client. */
  readonly tls?: Partial<TlsFiles>;
  /** How long one command, and the first connection, may take, in milliseconds. Default 5000. */
  readonly commandTimeoutMs?: number;
  /** Shown by Redis for its connections. Default: that of a program. */
  readonly name?: string;
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

/** Keys that Redis scans for one page, during which it serves nobody else. */
const keysAtOnce = 1_000;

const commitScript = loadScript('commit-3');
const claimScript = loadScript('claim-1');
const parkScript = loadScript('park-1');
const lookupScript = loadScript('lookup-2');
const recordDeadLetterScript = loadScript('record-dead-letter-2');
const beginReplayScript = loadScript('begin-replay-1');
const noteReplayScript = loadScript('note-replay-1');

/** Connects at once, in the background. Throws `ConfigError` when the URL is invalid. */
export function createRedisStore(options: RedisStoreOptions): Store {
  const { name, log, onReconnect, durability = { kind: 'none' }, commandTimeoutMs = defaultCommandTimeoutMs, time = systemTime } = options;
  const target = parseRedisUrl(options.url, options.tls);
  const connection = new Connection({ target, commandTimeoutMs, name, log, onReconnect, time });
  const connect = () => new Connection({ target, commandTimeoutMs, name, log, onReconnect: undefined, time });
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
  readonly #idTtlMs: number;
  readonly #initialVersion: InitialVersion;
  readonly operator: OperatorStore;

  constructor(connection: Connection, durable: Durable, options: StoreOptions & { readonly durability: Durability }) {
    this.#connection = connection;
    this.#durable = durable;
    this.#durability = options.durability;
    this.#keys = new Keys(options.stream);
    this.#streamState = new RedisStreamState(connection, this.#keys, options.stream);
    this.#initialVersion = options.initialVersion ?? 0;
    this.operator = {
      beginReplay: (replays, leaseMs) => this.#beginReplay(replays, leaseMs),
      noteReplays: (messages) => this.#noteReplays(messages),
      resume: (epoch) => this.#durable.keep(() => this.#streamState.resume(epoch)),
      changeShape: (shape, from) => this.#streamState.changeShape(shape, from),
      appendAudit: (entries) => this.#streamState.appendAudit(entries),
      readAudit: () => this.#streamState.readAudit(),
    };
    this.#idTtlMs = Math.ceil(options.idempotencyTtlSeconds * 1000);
  }

  async load(entities: readonly EntityRef[]): Promise<readonly LoadResult[]> {
    return this.#readFields(entities, snapshotFields, (reply) => ({ status: 'ok', snapshot: readSnapshot(reply, this.#initialVersion) }));
  }

  async commit(commits: readonly Commit[]) {
    const calls = commits.map((commit) => this.#commitArguments(commit));
    return this.#run(commitScript, calls, readCommit);
  }

  async claim(claims: readonly Claim[]) {
    const calls = claims.map((claim) => [this.#keys.entity(claim), claim.shard, claim.epoch, claim.session]);
    return this.#run(claimScript, calls, readClaim);
  }

  async park(parks: readonly Park[]) {
    const calls = parks.map((park) => {
      const { shard, epoch, expectedVersion, sequence, session } = park;
      return [this.#keys.entity(park), shard, epoch, expectedVersion, writeParked(park), sequence, session, this.#initialVersion];
    });
    return this.#run(parkScript, calls, readPark);
  }

  async lookUp(queries: readonly LookupQuery[]) {
    const field = (query: LookupQuery): string => (query.sequence === null ? idField(query.id) : sequenceField(query.sequence));
    const calls = queries.map((query) => [this.#keys.entity(query), this.#keys.ids(query), field(query), this.#initialVersion]);
    return this.#run(lookupScript, calls, readLookup);
  }

  readLog(entity: EntityRef): AsyncIterable<string> {
    let from = 0;
    return inPages((size) => this.#connection.ask(['LRANGE', this.#keys.log(entity), from, (from += size) - 1]));
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

  /** A note that is lost with the tail of the store costs another trial, and no event. */
  noteSession(shard: number, epoch: number, note: string | null) {
    return this.#streamState.noteSession(shard, epoch, note);
  }

  streamState({ durable = false } = {}) {
    return durable ? this.#durable.keep(() => this.#streamState.read()) : this.#streamState.read();
  }

  identify(): Promise<string> {
    return this.#durable.keep(() => this.#streamState.identify());
  }

  recordLayout(shape: StreamShape) {
    return this.#durable.keep(() => this.#streamState.recordLayout(shape));
  }

  halt(halt: Halt): Promise<void> {
    return this.#durable.keep(() => this.#streamState.halt(halt));
  }

  /**
   * Master by master and page by page. Entities created or removed meanwhile may be missed, and entities that Redis moves meanwhile
   * may come twice. An entity with an unusable key is left out.
   */
  async *listEntities({ entityType }: { readonly entityType?: string }): AsyncGenerator<EntitySummary> {
    for (const master of await this.#connection.masters()) {
      let cursor = '0';
      do {
        const [next, keys] = await master
          .scan(cursor, 'MATCH', this.#keys.entityPattern(entityType), 'COUNT', keysAtOnce)
          .catch((error: Error) => Promise.reject(unavailable(this.#connection.where, error)));
        const entities = keys.map((key) => this.#keys.parseEntity(key)).filter((entity) => entity !== null);
        const read = (reply: unknown) => ({ status: 'ok', summary: readSummary(reply, this.#initialVersion) }) as const;
        for (const [index, result] of (await this.#readFields(entities, summaryFields, read)).entries()) {
          if (result.status === 'ok' && result.summary !== null) yield { ...entities[index]!, ...result.summary };
        }
        cursor = next;
      } while (cursor !== '0');
    }
  }

  inspect(): Promise<readonly Finding[]> {
    return inspectServers(this.#connection, this.#durability);
  }

  async ping(): Promise<void> {
    await this.#connection.askMasters(['PING']);
  }

  /** In a cluster of the master that has the stream's state. */
  tryWrite(): Promise<void> {
    return this.#durable.keep(() => this.#streamState.tryWrite());
  }

  async close(): Promise<void> {
    await Promise.all([this.#connection.close(), this.#durable.close()]);
  }

  /** Returns the records that could not be written. */
  async #writeDeadLetters(
    records: readonly DeadLetterRecord[],
    placeOf: (record: DeadLetterRecord) => readonly [key: string, awaited: number | null],
  ): Promise<{ record: DeadLetterRecord; error: Error }[]> {
    const limits = [deadLetterTtlMs, maxDeadLettersPerEntity];
    const calls = records.map((record) => {
      const [key, awaited] = placeOf(record);
      const { entityType, entityId, fingerprint } = record;
      // Without a waiting entity the second key is not used, but it must be in the slot of the first.
      const entity = awaited === null || entityType === null || entityId === null ? null : this.#keys.entity({ entityType, entityId });
      const waits = entity === null || awaited === null ? '' : awaited;
      return [key, entity ?? key, fingerprint, JSON.stringify(keptRecord(record)), ...limits, waits, this.#initialVersion];
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

  #commitArguments(commit: Commit): Call {
    const { events, state } = commit;
    let trims = 0;
    const log: string[] = [];
    const records: (string | number)[] = [];
    for (const event of events) {
      if (event.sequence % trimEvery === 0) trims++;
      if (event.log !== undefined) log.push(event.log);
      const field = event.recordId && !event.consumed ? idField(event.id) : '';
      records.push(event.sequence, field, event.payloadHash, writeResult(event.result));
    }
    const call: (string | number)[] = [
      this.#keys.entity(commit),
      this.#keys.ids(commit),
      this.#keys.log(commit),
      commit.token,
      commit.expectedVersion,
      commit.expectedHoles,
      commit.newVersion,
      commit.newHoles,
      state === null ? '0' : '1',
      state ?? '',
      this.#idTtlMs,
      trims * trimStretch,
      this.#initialVersion,
      log.length,
    ];
    return call.concat(log, records);
  }

  /** Waits for durability after writes, and after reads that lead to an acknowledgement. */
  async #run<T>(
    script: Script,
    calls: readonly Call[],
    read: (reply: unknown, initialVersion: InitialVersion) => T,
  ): Promise<(T | { status: 'failed'; error: Error })[]> {
    if (calls.length === 0) return [];
    return this.#durable.keep(async () =>
      this.#read(await runScript(this.#connection, script, calls), firstOf(calls), (reply) => read(reply, this.#initialVersion)),
    );
  }

  async #beginReplay(replays: readonly EntityReplaying[], leaseMs: number): Promise<readonly LoadResult[]> {
    const calls = replays.map(({ parkedAt, replayedTo = this.#initialVersion, ...entity }) => {
      return [this.#keys.entity(entity), leaseMs, parkedAt === undefined ? '' : Date.parse(parkedAt), replayedTo];
    });
    const replies = await runScript(this.#connection, beginReplayScript, calls);
    return this.#read(replies, firstOf(calls), (reply) => ({ status: 'ok', snapshot: readSnapshot(reply, this.#initialVersion) }));
  }

  async #noteReplays(messages: readonly DeadLetterQuery[]): Promise<void> {
    const limits = [deadLetterTtlMs, maxRememberedReplays];
    const calls = messages.map((message) => [this.#keys.deadLetters(message), message.fingerprint, ...limits]);
    for (const [error] of await runScript(this.#connection, noteReplayScript, calls)) {
      // If a foreign key is in the way, there is no record in which to count.
      if (error && !isEntityFailure(error)) throw unavailable(this.#connection.where, error);
    }
  }

  /** These fields of the entities' hashes. */
  async #readFields<T>(entities: readonly EntityRef[], fields: readonly string[], read: (reply: unknown) => T) {
    const keys = entities.map((entity) => this.#keys.entity(entity));
    const replies = await this.#connection.send(keys.map((key): Command => ['HMGET', key, ...fields]));
    return this.#read(await withTimes(this.#connection, keys, replies), keys, read);
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

function firstOf(calls: readonly Call[]): string[] {
  return calls.map(([key = '']) => String(key));
}
