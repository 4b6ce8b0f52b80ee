/**
 * The state of a stream in Redis: the last epoch, the identity of the store, and the halts. Two keys in one slot,
 * so that a session begins in one step.
 */
import type { EpochResult, Halt, StreamState } from '../store.ts';
import type { Connection } from './connection.ts';
import { unavailable } from './failures.ts';
import type { Keys } from './keys.ts';
import { loadScript, runScript, type Script } from './script.ts';

const nextEpochScript = loadScript('next-epoch-2');
const resumeScript = loadScript('resume-2');

export class RedisStreamState {
  readonly #connection: Connection;
  readonly #keys: Pick<Keys, 'epoch' | 'streamState'>;

  constructor(connection: Connection, keys: Pick<Keys, 'epoch' | 'streamState'>) {
    this.#connection = connection;
    this.#keys = keys;
  }

  async nextEpoch(shard: number): Promise<EpochResult> {
    const [status, ...rest] = (await this.#run(nextEpochScript, [String(shard)])) as readonly (string | number | null)[];
    if (status === 'halted') return { status, halt: readHalt(String(rest[0]), String(rest[1])) };
    return { status: 'ok', epoch: Number(rest[0]), identity: (rest[1] as string | null | undefined) ?? null };
  }

  async read(): Promise<StreamState> {
    const [epoch, fields] = await this.#connection.send([
      ['GET', this.#keys.epoch],
      ['HGETALL', this.#keys.streamState],
    ]);
    for (const reply of [epoch, fields]) if (reply?.[0]) throw unavailable(this.#connection.where, reply[0]);
    const known = entriesOf(fields?.[1] as readonly string[]);
    return {
      identity: known.find(([field]) => field === 'identity')?.[1] ?? null,
      epoch: Number(epoch?.[1] ?? 0),
      halts: known.filter(([field]) => field.startsWith('halt:')).map(([field, text]) => readHalt(field, text)),
    };
  }

  async identify(): Promise<string> {
    const [made, found] = await this.#connection.send([
      ['HSETNX', this.#keys.streamState, 'identity', this.#connection.time.uuid()],
      ['HGET', this.#keys.streamState, 'identity'],
    ]);
    for (const reply of [made, found]) if (reply?.[0]) throw unavailable(this.#connection.where, reply[0]);
    return String(found?.[1]);
  }

  async halt({ shard, detail, at }: Halt): Promise<void> {
    await this.#connection.ask(['HSETNX', this.#keys.streamState, `halt:${shard ?? '*'}`, JSON.stringify({ detail, at })]);
  }

  async resume(epoch: number): Promise<StreamState> {
    await this.#run(resumeScript, [String(epoch), this.#connection.time.uuid()]);
    return this.read();
  }

  async #run(script: Script, args: readonly string[]): Promise<unknown> {
    const [reply] = await runScript(this.#connection, script, [[this.#keys.epoch, this.#keys.streamState, ...args]]);
    if (reply?.[0]) throw unavailable(this.#connection.where, reply[0]);
    return reply?.[1];
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
