/**
 * DURABILITY: what was done counts only when as many replicas, or the append-only file, have it as was asked for.
 *
 *   main connection      ── commits of a shard ──▶ answers ─┐         ┌─▶ the same servers all the while? then it is done
 *   second connection                                       └─ WAIT ──┘   otherwise, or with too few: unknown, ask again
 *
 * - One WAIT for a batch, and one for all batches that were answered while the last WAIT was under way. It has a connection of its
 *   own, for it blocks the one that it is sent on.
 * - WAIT speaks of what its own connection has written (since Redis 7.2, of nothing when it only read), so each comes with a write
 *   of one key; and it stands for what other connections did before, because a server's writes have one order.
 * - What was read counts as well: an event is a duplicate only as long as the commit that it was found in is kept.
 * - A fail-over in between proves nothing about the new master. Both connections must have been to one run of one server from
 *   before the work until the WAIT was answered; the client sends again over a new connection what the old one left unanswered.
 */
import type { Durability } from '../../config/config.ts';
import { UnavailableError } from '../../errors.ts';
import { type Finding, failure, ok, warning } from '../../finding.ts';
import type { Command, Connection } from './connection.ts';
import { unavailable } from './failures.ts';

export interface DurableOptions {
  readonly durability: Durability;
  readonly main: Connection;
  /** Opens the second connection; not called where nothing is waited for. */
  readonly connect: () => Connection;
  /** The key that is written before each WAIT. */
  readonly key: string;
  /** How long a WAIT may take, in milliseconds. */
  readonly waitMs: number;
}

export class Durable {
  readonly #options: DurableOptions;
  /** Null: nothing is waited for. */
  readonly #second: Connection | null;
  /** The lives of both connections in which they were seen to be to one run of one server. */
  #together: string | null = null;
  #underWay: Promise<void> = Promise.resolve();
  #next: Promise<void> | null = null;

  constructor(options: DurableOptions) {
    this.#options = options;
    this.#second = options.durability.kind === 'none' ? null : options.connect();
  }

  /**
   * Resolves with what `work` gives once it is kept. `work` is begun at once where nothing is waited for.
   *
   * @throws UnavailableError when it is not known whether it is: the same work again waits again.
   */
  async keep<T>(work: () => Promise<T>): Promise<T> {
    const second = this.#second;
    if (second === null) return work();
    const lives = await this.#sameServer(second);
    const result = await work();
    await this.#nextWait(second);
    if (this.#lives(second) !== lives)
      throw new UnavailableError(`The connection to ${this.#options.main.where} was lost before it was known that the data are kept.`);
    return result;
  }

  async close(): Promise<void> {
    await this.#second?.close();
  }

  #lives(second: Connection): string {
    return `${this.#options.main.life} ${second.life}`;
  }

  async #sameServer(second: Connection): Promise<string> {
    const { main } = this.#options;
    const lives = this.#lives(second);
    if (lives === this.#together) return lives;
    const [one, other] = await Promise.all([main, second].map(async (connection) => runIdOf(await connection.ask(['INFO', 'server']))));
    if (one === other && this.#lives(second) === lives) {
      this.#together = lives;
      return lives;
    }
    // One of them is still with the old master.
    if (one !== other) second.renew();
    throw new UnavailableError(`The connections to ${main.where} are not to the same server yet: a fail-over is under way.`);
  }

  /** The WAIT that is under way may have begun before the work was done: the one after it counts. */
  #nextWait(second: Connection): Promise<void> {
    this.#next ??= this.#underWay
      .catch(() => undefined)
      .then(() => {
        this.#next = null;
        this.#underWay = this.#wait(second);
        return this.#underWay;
      });
    return this.#next;
  }

  async #wait(second: Connection): Promise<void> {
    const { durability, key, waitMs, main } = this.#options;
    const wait: Command =
      durability.kind === 'replicas' ? ['WAIT', String(durability.count), String(waitMs)] : ['WAITAOF', '1', '0', String(waitMs)];
    const [written, waited] = await second.send([['SET', key, ''], wait]);
    const error = written?.[0] ?? waited?.[0];
    if (error) throw unavailable(main.where, error);
    const value = waited?.[1];
    const confirmed = Number(Array.isArray(value) ? value[0] : value);
    const wanted = durability.kind === 'replicas' ? durability.count : 1;
    if (confirmed >= wanted) return;
    const who = durability.kind === 'replicas' ? `${confirmed} of ${wanted} replicas have` : 'its append-only file does not have';
    throw new UnavailableError(
      `${main.where} has the data, but after ${waitMs / 1_000} s ${who} them (DURABILITY): nothing is acknowledged. Look at INFO replication and the disks.`,
    );
  }
}

function runIdOf(info: unknown): string {
  return /^run_id:(\w+)/m.exec(String(info))?.[1] ?? '';
}

/** Whether a server, by its INFO, can give what DURABILITY asks for. */
export function durabilityFinding(durability: Durability, info: ReadonlyMap<string, string>): Finding | null {
  const subject = 'Redis durability';
  if (durability.kind === 'none') return null;
  if (durability.kind === 'replicas') {
    const connected = Number(info.get('connected_slaves') ?? 0);
    const detail = `${connected} of ${durability.count} replicas are connected`;
    if (connected >= durability.count) return ok(subject, detail);
    return warning(
      subject,
      `${detail}: with DURABILITY=replicas:${durability.count} nothing is acknowledged until they are.`,
      'Bring the replicas back.',
    );
  }
  const [major = 0, minor = 0] = (info.get('redis_version') ?? '').split('.').map(Number);
  if (major < 7 || (major === 7 && minor < 2)) {
    return failure(
      subject,
      `DURABILITY=aof needs WAITAOF, which Redis has from 7.2 on; this is ${info.get('redis_version')}.`,
      'Upgrade Redis, or use DURABILITY=replicas:N.',
    );
  }
  if (info.get('aof_enabled') !== '1') {
    return failure(subject, 'DURABILITY=aof, and the append-only file is off.', 'CONFIG SET appendonly yes, and put it in redis.conf.');
  }
  return ok(subject, 'commits are in the append-only file before they are acknowledged');
}
