/** `OperatorStore` in Redis. The audit trail is a Redis stream. */
import { deadLetterTtlMs, maxRememberedReplays } from '../../ordering/entity-rules.ts';
import { maxAuditRecords } from '../store.ts';
import type { AuditEntry, AuditRecord, EntityReplaying, OperatorStore, DeadLetterQuery, LoadResult, StreamState } from '../store.ts';
import type { InitialVersion } from '../../ordering/entity.ts';
import type { Connection } from './connection.ts';
import { entityFailure, isEntityFailure, unavailable } from './failures.ts';
import type { Keys } from './keys.ts';
import { readSnapshot } from './replies.ts';
import { loadScript, runScript } from './script.ts';
import type { RedisStreamState } from './stream-state.ts';

const beginReplayScript = loadScript('begin-replay-1');
const noteReplayScript = loadScript('note-replay-1');

const auditPage = 500;

export class RedisOperatorStore implements OperatorStore {
  readonly #connection: Connection;
  readonly #keys: Keys;
  readonly #streamState: RedisStreamState;
  readonly #initialVersion: InitialVersion;

  constructor(connection: Connection, keys: Keys, streamState: RedisStreamState, initialVersion: InitialVersion) {
    this.#connection = connection;
    this.#keys = keys;
    this.#streamState = streamState;
    this.#initialVersion = initialVersion;
  }

  async beginReplay(replays: readonly EntityReplaying[], leaseMs: number): Promise<readonly LoadResult[]> {
    const calls = replays.map(({ parkedAt, replayedTo = this.#initialVersion, ...entity }) => [
      this.#keys.entity(entity),
      String(leaseMs),
      parkedAt === undefined ? '' : String(Date.parse(parkedAt)),
      String(replayedTo),
    ]);
    const replies = await runScript(this.#connection, beginReplayScript, calls);
    return replies.map(([error, reply], index): LoadResult => {
      if (!error) return { status: 'ok', snapshot: readSnapshot(reply, this.#initialVersion) };
      if (!isEntityFailure(error)) throw unavailable(this.#connection.where, error);
      return { status: 'failed', error: entityFailure(calls[index]?.[0] ?? '', error) };
    });
  }

  async noteReplays(messages: readonly DeadLetterQuery[]): Promise<void> {
    const limits = [String(deadLetterTtlMs), String(maxRememberedReplays)];
    const calls = messages.map((message) => [this.#keys.deadLetters(message), message.fingerprint, ...limits]);
    for (const [error] of await runScript(this.#connection, noteReplayScript, calls)) {
      // If a foreign key is in the way, there is no record in which to count.
      if (error && !isEntityFailure(error)) throw unavailable(this.#connection.where, error);
    }
  }

  resume(epoch: number): Promise<StreamState> {
    return this.#streamState.resume(epoch);
  }

  async appendAudit(entries: readonly AuditEntry[]): Promise<void> {
    const replies = await this.#connection.send(
      entries.map((entry) => ['XADD', this.#keys.audit, 'MAXLEN', '~', String(maxAuditRecords), '*', 'entry', JSON.stringify(entry)]),
    );
    for (const [error] of replies) if (error) throw unavailable(this.#connection.where, error);
  }

  async *readAudit(): AsyncGenerator<AuditRecord, void, void> {
    let before = '+';
    for (;;) {
      const page = (await this.#connection.ask(['XREVRANGE', this.#keys.audit, before, '-', 'COUNT', String(auditPage)])) as [
        string,
        string[],
      ][];
      for (const [id, [, json = '{}']] of page) {
        yield { at: new Date(Number(id.split('-')[0])).toISOString(), ...(JSON.parse(json) as AuditEntry) };
      }
      const last = page.at(-1)?.[0];
      if (last === undefined || page.length < auditPage) return;
      before = `(${last}`;
    }
  }
}
