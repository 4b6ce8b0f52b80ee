/**
 * The event store in Redis, for light use: an append is one script. A stream's log is in memory, and on one node also in a
 * cluster. What Redis loses is lost, so use `appendfsync always` if the log is the source of truth.
 */
import { createHash } from 'node:crypto';
import { UnavailableError, VersionConflictError } from '../../errors.ts';
import type { EntityRef } from '../../events/event.ts';
import type { Log } from '../../observability/log.ts';
import { systemTime } from '../../time.ts';
import type { TlsFiles } from '../../tls.ts';
import { type AppendRules, expectedNumber, idConflict, type PreparedEvent, prepareAppend, rangeOf, recorded } from '../append-rules.ts';
import type {
  AppendOptions,
  EventStore,
  EventToAppend,
  ReadAllOptions,
  ReadOptions,
  RecordedEvent,
  StateSnapshot,
} from '../event-store.ts';
import { layoutVersion, refuseNewerLayout } from '../layout.ts';
import { inPages } from '../store.ts';
import type { Durability } from '../../config/config.ts';
import { Connection } from './connection.ts';
import { Durable } from './durability.ts';
import { EventKeys, idField } from './keys.ts';
import { parseRedisUrl } from './redis-url.ts';
import { askScript, loadScript } from './script.ts';
import type { StreamEntry } from './stream-state.ts';
import { defaultLeaseMs, type LeaseRow, type RelayLeases, type RelayLeasesOptions, StoredRelayLeases } from '../relay-lease.ts';

export interface RedisEventStoreOptions extends AppendRules {
  /** One of the forms of REDIS_URL. */
  readonly url: string;
  /** For `rediss`. Default: the authorities that Node.js trusts, and no certificate of the client. */
  readonly tls?: Partial<TlsFiles>;
  /** Name of the stream: each has its own log. Default `events`. */
  readonly stream?: string;
  /** Shown by Redis for its connections. Default `inorder/program@HOST#PID`. */
  readonly name?: string;
  readonly log?: Pick<Log, 'info' | 'warn'>;
  /** How long one command, and the first connection, may take, in milliseconds. Default 5000. */
  readonly commandTimeoutMs?: number;
  /** What must have an append, beside the server's memory, before it counts; not for a cluster. Default: nothing. */
  readonly durability?: Durability;
}

const defaultCommandTimeoutMs = 5_000;
const page = 500;

const appendScript = loadScript('append-3');
const readScript = loadScript('read-events-2');
const snapshotScript = loadScript('write-snapshot-1');
const layoutScript = loadScript('event-layout-1');

/** Refuses, at the first use, events that a newer version of Inorder has laid out otherwise; who writes puts the layout on record. */
class EventLayout {
  readonly #connection: Connection;
  readonly #key: string;
  readonly #stream: string;
  #isChecked = false;
  #isRecorded = false;

  constructor(connection: Connection, keys: EventKeys, stream: string) {
    this.#connection = connection;
    this.#key = keys.layout;
    this.#stream = stream;
  }

  /** @throws ConfigError */
  async check(): Promise<void> {
    if (this.#isChecked) return;
    const [version] = (await this.#connection.ask(['HMGET', this.#key, 'version'])) as readonly [string | null];
    this.#refuseNewer(version);
  }

  /** @throws ConfigError */
  async record(): Promise<void> {
    if (this.#isRecorded) return;
    this.#refuseNewer((await askScript(this.#connection, layoutScript, [this.#key, layoutVersion])) as string);
    this.#isRecorded = true;
  }

  #refuseNewer(version: string | null): void {
    refuseNewerLayout(`the events of stream ${this.#stream}`, Number(version));
    this.#isChecked = true;
  }
}

/** An event as it is stored, without its sequence and position. */
interface Kept extends EntityRef, PreparedEvent {}

export function createRedisEventStore(options: RedisEventStoreOptions): EventStore {
  return new RedisEventStore(options);
}

class RedisEventStore implements EventStore {
  readonly #connection: Connection;
  readonly #durable: Durable;
  readonly #options: RedisEventStoreOptions;
  readonly #keys: EventKeys;
  readonly #layout: EventLayout;
  /** A separate connection, because a blocking read occupies it. */
  #waiting: Connection | null = null;

  constructor(options: RedisEventStoreOptions) {
    this.#options = options;
    const { stream = 'events' } = options;
    this.#keys = new EventKeys(stream);
    this.#connection = this.#connect();
    this.#layout = new EventLayout(this.#connection, this.#keys, stream);
    const { durability = { kind: 'none' } } = options;
    const waitMs = Math.floor(this.#commandTimeoutMs / 2);
    this.#durable = new Durable({ durability, main: this.#connection, connect: () => this.#connect(), key: this.#keys.kept, waitMs });
  }

  async append(entity: EntityRef, events: readonly EventToAppend[], { expectedVersion }: AppendOptions) {
    const prepared = prepareAppend(entity, events, this.#options);
    const expected = expectedNumber(expectedVersion);
    const args = prepared.flatMap((event) => [
      idField(event.id),
      fingerprintOf(event),
      JSON.stringify({ ...entity, ...event } satisfies Kept),
    ]);
    await this.#layout.record();
    const keys = [this.#keys.log, this.#keys.entity(entity), this.#keys.ids(entity)];
    const [status, version, position] = (await this.#durable.keep(() =>
      askScript(this.#connection, appendScript, [...keys, expected ?? '', ...args]),
    )) as [string, number, number];
    if (status === 'conflict') throw new VersionConflictError(expectedVersion, version);
    if (status === 'id_conflict') throw idConflict();
    return { status: status === 'repeated' ? ('repeated' as const) : ('appended' as const), version, position };
  }

  async *read(entity: EntityRef, options: ReadOptions = {}): AsyncGenerator<RecordedEvent> {
    const [low, high] = rangeOf(options);
    const last = Math.min(high, await this.version(entity));
    const backwards = options.direction === 'backwards';
    let left = options.limit ?? Number.POSITIVE_INFINITY;
    for (let [from, to] = [Math.max(1, low), last]; from <= to && left > 0; ) {
      const size = Math.min(page, left, to - from + 1);
      const first = backwards ? to - size + 1 : from;
      const events = await this.#readRange(entity, first, first + size - 1);
      yield* backwards ? events.reverse() : events;
      left -= size;
      if (backwards) to -= size;
      else from += size;
    }
  }

  async *readAll({ after = 0, limit }: ReadAllOptions = {}): AsyncGenerator<RecordedEvent> {
    await this.#layout.check();
    const read = (size: number, last: StreamEntry = [`${after}-0`, []]) =>
      this.#connection.ask(['XRANGE', this.#keys.log, `(${last[0]}`, '+', 'COUNT', size]);
    for await (const [id, [, sequence = '', , event = '']] of inPages<StreamEntry>(read, limit))
      yield eventFrom(event, Number(sequence), Number(id.split('-')[0]));
  }

  async waitForMore(position: number, signal: AbortSignal): Promise<void> {
    this.#waiting ??= this.#connect();
    const blockMs = Math.floor(this.#commandTimeoutMs / 2);
    while (!signal.aborted) {
      const read = this.#waiting.ask(['XREAD', 'COUNT', '1', 'BLOCK', String(blockMs), 'STREAMS', this.#keys.log, `${position}-0`]);
      if ((await unlessAborted(read, signal)) !== null) return;
    }
  }

  async version(entity: EntityRef): Promise<number> {
    await this.#layout.check();
    return Number(await this.#connection.ask(['LLEN', this.#keys.entity(entity)]));
  }

  async readSnapshot(entity: EntityRef) {
    await this.#layout.check();
    const [version, schemaVersion, state] = (await this.#connection.ask(['HMGET', this.#keys.snapshot(entity), 'v', 'c', 's'])) as (
      | string
      | null
    )[];
    if (version == null || schemaVersion == null || state == null) return null;
    return { version: Number(version), schemaVersion: Number(schemaVersion), state };
  }

  async writeSnapshot(entity: EntityRef, { version, schemaVersion, state }: StateSnapshot): Promise<void> {
    await this.#layout.record();
    await askScript(this.#connection, snapshotScript, [this.#keys.snapshot(entity), version, schemaVersion, state]);
  }

  async close(): Promise<void> {
    await Promise.all([this.#connection.close(), this.#durable.close(), this.#waiting?.close()]);
  }

  get #commandTimeoutMs(): number {
    return this.#options.commandTimeoutMs ?? defaultCommandTimeoutMs;
  }

  #connect(): Connection {
    const { url, tls, name, log, time = systemTime } = this.#options;
    const commandTimeoutMs = this.#commandTimeoutMs;
    return new Connection({ target: parseRedisUrl(url, tls), commandTimeoutMs, name, log, onReconnect: undefined, time });
  }

  async #readRange(entity: EntityRef, first: number, last: number): Promise<RecordedEvent[]> {
    const call = [this.#keys.log, this.#keys.entity(entity), first - 1, last - 1];
    const found = (await askScript(this.#connection, readScript, call)) as string[];
    const events: RecordedEvent[] = [];
    for (let at = 0; at < found.length; at += 3) events.push(eventFrom(found[at + 2]!, Number(found[at + 1]), Number(found[at])));
    if (events.length < last - first + 1)
      throw new UnavailableError(`events of ${this.#connection.where} are missing: was the log trimmed?`);
    return events;
  }
}

/** Ignores the outcome of `work` once `signal` aborts. Leaves no listener with the signal. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | 'aborted'> {
  return new Promise((resolve, reject) => {
    const abort = () => resolve('aborted');
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

function fingerprintOf({ type, dataJson }: PreparedEvent): string {
  return createHash('sha256')
    .update(JSON.stringify([type, dataJson]))
    .digest('base64url');
}

function eventFrom(json: string, sequence: number, position: number): RecordedEvent {
  const kept = JSON.parse(json) as Kept;
  return recorded(kept, kept, sequence, position);
}

const relayScript = loadScript('relay-1');

type RedisRelayLeasesOptions = RelayLeasesOptions & Pick<RedisEventStoreOptions, 'tls'>;

/** The lease of the stream's relay is a key, each step one script. */
export function createRedisRelayLeases({ url, tls, stream, name, leaseMs = defaultLeaseMs, time }: RedisRelayLeasesOptions): RelayLeases {
  const commandTimeoutMs = defaultCommandTimeoutMs;
  const connection = new Connection({
    target: parseRedisUrl(url, tls),
    commandTimeoutMs,
    name,
    log: undefined,
    onReconnect: undefined,
    time,
  });
  const keys = new EventKeys(stream);
  const layout = new EventLayout(connection, keys, stream);
  const row: LeaseRow = {
    async step(what, session, epoch, position) {
      await layout.record();
      const reply = await askScript(connection, relayScript, [keys.relay, what, epoch, leaseMs, position, session]);
      const [found, at] = (reply ?? []) as [string?, string?];
      return found === undefined ? null : { epoch: Number(found), position: Number(at) };
    },
    close: () => connection.close(),
  };
  return new StoredRelayLeases(row, leaseMs, time);
}
