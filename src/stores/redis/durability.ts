/**
 * DURABILITY: a commit counts only when the given number of replicas, or the append-only file, has it.
 *
 *   main connection      ── commits of a shard ──▶ answers ─┐         ┌─▶ still the same servers? then it is done
 *   second connection                                       └─ WAIT ──┘   otherwise, or with too few: unknown, ask again
 *
 * - One WAIT per batch, and one for all batches that were answered during the previous WAIT. It has a separate connection,
 *   because it blocks the one that it is sent on.
 * - WAIT covers the writes of its own connection (since Redis 7.2 none if that only read), so each is preceded by a write of
 *   one key; it thereby covers the earlier writes of other connections, because a server's writes have one order.
 * - Reads count as well: an event is a duplicate only if the commit that proves it is durable.
 * - After a fail-over a WAIT proves nothing about the new master. Both connections must have been to one run of one server from
 *   before the work until the answer to WAIT, because the client resends unanswered commands over a new connection.
 */
import type { Durability } from '../../config/config.ts';
import { UnavailableError } from '../../errors.ts';
import { type Finding, failure, ok, warning } from '../../finding.ts';
import type { Command, Connection } from './connection.ts';
import { unavailable } from './failures.ts';

export interface DurableOptions {
  readonly durability: Durability;
  readonly main: Connection;
  /** Opens the second connection; not called with `none`. */
  readonly connect: () => Connection;
  /** The key to write before each WAIT. */
  readonly key: string;
  /** How long a WAIT may take, in milliseconds. */
  readonly waitMs: number;
}

export class Durable {
  readonly #options: DurableOptions;
  /** Null with `none`. */
  readonly #second: Connection | null;
  /** The lives of both connections in which they were known to be to one run of one server. */
  #together: string | null = null;
  #underWay: Promise<void> = Promise.resolve();
  #next: Promise<void> | null = null;

  constructor(options: DurableOptions) {
    this.#options = options;
    this.#second = options.durability.kind === 'none' ? null : options.connect();
  }

  /**
   * Resolves with the result of `work` once it is durable. With `none` `work` starts at once.
   *
   * @throws UnavailableError when it is unknown whether it is durable: do the same work again.
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
    // One of them is still connected to the old master.
    if (one !== other) second.renew();
    throw new UnavailableError(`The connections to ${main.where} are not to the same server yet: a fail-over is under way.`);
  }

  /** A running WAIT may have begun before the work was done: the next one counts. */
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

/** Whether a server, by its INFO, supports what DURABILITY asks for. */
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
