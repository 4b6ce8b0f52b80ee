/**
 * The state of a stream in Redis: the last epoch, the identity of the store, the halts, the layout, and the sessions of shards. Three keys
 * in one slot, so that a session begins in one step. With it the audit trail, a Redis stream.
 */
import { isSameLayout, layoutFrom, layoutText, type StreamLayout, type StreamShape } from '../layout.ts';
import { type AuditEntry, type AuditRecord, type EpochResult, type Halt, inPages, maxAuditRecords, type StreamState } from '../store.ts';
import type { Connection } from './connection.ts';
import type { Keys } from './keys.ts';
import { askScript, loadScript } from './script.ts';

const changeLayoutScript = loadScript('change-layout-1');
const nextEpochScript = loadScript('next-epoch-3');
const noteSessionScript = loadScript('note-session-1');
const resumeScript = loadScript('resume-2');

/** Of a Redis stream: its id, and fields and values in turn. */
export type StreamEntry = readonly [id: string, fields: readonly string[]];

export class RedisStreamState {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #stream: string;

  constructor(connection: Connection, keys: Keys, stream: string) {
    this.#connection = connection;
    this.#keys = keys;
    this.#stream = stream;
  }

  async nextEpoch(shard: number): Promise<EpochResult> {
    const [status, ...rest] = (await askScript(this.#connection, nextEpochScript, [
      this.#keys.epoch,
      this.#keys.streamState,
      this.#keys.sessions,
      shard,
    ])) as (string | number | null)[];
    if (status === 'halted') return { status, halt: readHalt(String(rest[0]), String(rest[1])) };
    const [epoch, identity, unfinished] = rest as [number, string | null, string | null];
    return { status: 'ok', epoch, identity, unfinished };
  }

  async noteSession(shard: number, epoch: number, note: string | null): Promise<void> {
    await askScript(this.#connection, noteSessionScript, [this.#keys.sessions, shard, epoch, ...(note === null ? [] : [note])]);
  }

  async read(): Promise<StreamState> {
    const [epoch, fields] = await this.#connection.askAll([
      ['GET', this.#keys.epoch],
      ['HGETALL', this.#keys.streamState],
    ]);
    const known = entriesOf(fields as readonly string[]);
    return {
      identity: known.find(([field]) => field === 'identity')?.[1] ?? null,
      epoch: Number(epoch ?? 0),
      halts: known.filter(([field]) => field.startsWith('halt:')).map(([field, text]) => readHalt(field, text)),
      layout: layoutFrom(this.#stream, known.find(([field]) => field === 'layout')?.[1] ?? null),
    };
  }

  async identify(): Promise<string> {
    const [, found] = await this.#connection.askAll([
      ['HSETNX', this.#keys.streamState, 'identity', this.#connection.time.uuid()],
      ['HGET', this.#keys.streamState, 'identity'],
    ]);
    return String(found);
  }

  async recordLayout(shape: StreamShape): Promise<StreamLayout> {
    const [, found] = await this.#connection.askAll([
      ['HSETNX', this.#keys.streamState, 'layout', layoutText(shape)],
      ['HGET', this.#keys.streamState, 'layout'],
    ]);
    return layoutFrom(this.#stream, String(found))!;
  }

  async changeShape(shape: StreamShape, from: StreamLayout | null): Promise<StreamLayout> {
    const state = this.#keys.streamState;
    const read = (await this.#connection.ask(['HGET', state, 'layout'])) as string | null;
    const found = layoutFrom(this.#stream, read);
    if (found !== null && !isSameLayout(found, from)) return found;
    const record = await askScript(this.#connection, changeLayoutScript, [state, read ?? '', layoutText(shape)]);
    return layoutFrom(this.#stream, String(record))!;
  }

  /** Refused like any other write, and once the field is there it is none for replicas and the append-only file. */
  async tryWrite(): Promise<void> {
    await this.#connection.ask(['HSETNX', this.#keys.streamState, 'tried', '']);
  }

  async halt({ shard, detail, at }: Halt): Promise<void> {
    await this.#connection.ask(['HSETNX', this.#keys.streamState, `halt:${shard ?? '*'}`, JSON.stringify({ detail, at })]);
  }

  async resume(epoch: number): Promise<StreamState> {
    await askScript(this.#connection, resumeScript, [this.#keys.epoch, this.#keys.streamState, epoch, this.#connection.time.uuid()]);
    return this.read();
  }

  async appendAudit(entries: readonly AuditEntry[]): Promise<void> {
    await this.#connection.askAll(
      entries.map((entry) => ['XADD', this.#keys.audit, 'MAXLEN', '~', maxAuditRecords, '*', 'entry', JSON.stringify(entry)]),
    );
  }

  async *readAudit(): AsyncGenerator<AuditRecord, void, void> {
    const read = (size: number, last?: StreamEntry) =>
      this.#connection.ask(['XREVRANGE', this.#keys.audit, last === undefined ? '+' : `(${last[0]}`, '-', 'COUNT', size]);
    for await (const [id, [, json = '{}']] of inPages<StreamEntry>(read)) {
      yield { at: new Date(Number(id.split('-')[0])).toISOString(), ...(JSON.parse(json) as AuditEntry) };
    }
  }
}

function readHalt(field: string, text: string): Halt {
  const shard = field.slice('halt:'.length);
  const { detail, at } = JSON.parse(text) as Pick<Halt, 'detail' | 'at'>;
  return { shard: shard === '*' ? null : Number(shard), detail, at };
}

function entriesOf(flat: readonly string[]): [field: string, text: string][] {
  return flat.flatMap((field, at): [string, string][] => (at % 2 === 0 ? [[field, flat[at + 1] ?? '']] : []));
}
