/** Reasons and replays of dead letters in memory, by entity: bounded and kept as long as those in Redis. */
import { deadLetterTtlMs, keptRecord, maxDeadLettersPerEntity, maxRememberedReplays } from '../../ordering/entity-rules.ts';
import { isoNow, type Time } from '../../time.ts';
import type { DeadLetterRecord } from '../../ordering/entity.ts';
import type { DeadLetterHistory, DeadLetterQuery } from '../store.ts';

interface Letters {
  /** By fingerprint, the latest record last. */
  readonly histories: Map<string, DeadLetterHistory>;
  expiresAtMs: number;
}

export class MemoryDeadLetters {
  readonly #time: Time;
  readonly #letters = new Map<string, Letters>();

  constructor(time: Time) {
    this.#time = time;
  }

  record(record: DeadLetterRecord): void {
    const { histories } = this.#kept(record);
    const replayedAt = histories.get(record.fingerprint)?.replayedAt ?? [];
    histories.delete(record.fingerprint);
    histories.set(record.fingerprint, { record: keptRecord(record), replayedAt });
    const [oldest] = histories.keys();
    if (histories.size > maxDeadLettersPerEntity && oldest !== undefined) histories.delete(oldest);
  }

  noteReplay(message: DeadLetterQuery): void {
    const { histories } = this.#kept(message);
    const { record = null, replayedAt = [] } = histories.get(message.fingerprint) ?? {};
    const times = [isoNow(this.#time), ...replayedAt];
    histories.set(message.fingerprint, { record, replayedAt: times.slice(0, maxRememberedReplays) });
  }

  find(query: DeadLetterQuery): DeadLetterHistory | null {
    return this.#unexpired(query)?.histories.get(query.fingerprint) ?? null;
  }

  /** Renews the time for which the entity's letters are kept. */
  #kept(query: DeadLetterQuery): Letters {
    const letters = this.#unexpired(query) ?? { histories: new Map<string, DeadLetterHistory>(), expiresAtMs: 0 };
    this.#letters.set(nameOf(query), letters);
    letters.expiresAtMs = this.#time.wallMs() + deadLetterTtlMs;
    return letters;
  }

  #unexpired(query: DeadLetterQuery): Letters | undefined {
    const letters = this.#letters.get(nameOf(query));
    return letters !== undefined && letters.expiresAtMs > this.#time.wallMs() ? letters : undefined;
  }
}

function nameOf({ entityType, entityId, fingerprint }: DeadLetterQuery): string {
  return JSON.stringify(entityType === null || entityId === null ? [fingerprint] : [entityType, entityId]);
}
