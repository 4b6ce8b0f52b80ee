/** The event store in memory, exact and deterministic: for tests and experiments. Nothing survives the process. */
import { VersionConflictError } from '../../errors.ts';
import type { EntityRef } from '../../events/event.ts';
import { entityKey } from '../../events/identity.ts';
import {
  type AppendRules,
  expectedNumber,
  idConflict,
  isExpected,
  type PreparedEvent,
  prepareAppend,
  rangeOf,
  recorded,
} from '../append-rules.ts';
import type {
  AppendOptions,
  AppendResult,
  EventStore,
  EventToAppend,
  ReadAllOptions,
  ReadOptions,
  RecordedEvent,
  StateSnapshot,
} from '../event-store.ts';

export function createMemoryEventStore(options: AppendRules = {}): EventStore {
  return new MemoryEventStore(options);
}

class MemoryEventStore implements EventStore {
  readonly #log: RecordedEvent[] = [];
  readonly #entities = new Map<string, RecordedEvent[]>();
  readonly #snapshots = new Map<string, StateSnapshot>();
  readonly #waiting = new Set<() => void>();
  readonly #rules: AppendRules;

  constructor(rules: AppendRules) {
    this.#rules = rules;
  }

  async append(entity: EntityRef, events: readonly EventToAppend[], { expectedVersion }: AppendOptions): Promise<AppendResult> {
    const prepared = prepareAppend(entity, events, this.#rules);
    const expected = expectedNumber(expectedVersion);
    const log = this.#entities.get(entityKey(entity)) ?? [];
    const known = log.filter(({ id }) => prepared.some((one) => one.id === id));
    if (known.length > 0) return repeated(known, prepared);
    if (!isExpected(expected, log.length)) throw new VersionConflictError(expectedVersion, log.length);
    for (const one of prepared) {
      const event = recorded(entity, one, log.length + 1, this.#log.length + 1);
      log.push(event);
      this.#log.push(event);
    }
    this.#entities.set(entityKey(entity), log);
    for (const wake of this.#waiting) wake();
    return { status: 'appended', version: log.length, position: this.#log.length };
  }

  async *read(entity: EntityRef, options: ReadOptions = {}): AsyncGenerator<RecordedEvent> {
    const [low, high] = rangeOf(options);
    const events = (this.#entities.get(entityKey(entity)) ?? []).slice(Math.max(0, low - 1), high);
    if (options.direction === 'backwards') events.reverse();
    yield* events.slice(0, options.limit);
  }

  async *readAll({ after = 0, limit }: ReadAllOptions = {}): AsyncGenerator<RecordedEvent> {
    yield* this.#log.slice(after, limit === undefined ? undefined : after + limit);
  }

  async waitForMore(position: number, signal: AbortSignal): Promise<void> {
    while (this.#log.length <= position && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const finish = () => {
          this.#waiting.delete(finish);
          signal.removeEventListener('abort', finish);
          resolve();
        };
        this.#waiting.add(finish);
        signal.addEventListener('abort', finish, { once: true });
      });
    }
  }

  async version(entity: EntityRef): Promise<number> {
    return this.#entities.get(entityKey(entity))?.length ?? 0;
  }

  async readSnapshot(entity: EntityRef): Promise<StateSnapshot | null> {
    return this.#snapshots.get(entityKey(entity)) ?? null;
  }

  async writeSnapshot(entity: EntityRef, snapshot: StateSnapshot): Promise<void> {
    const known = this.#snapshots.get(entityKey(entity));
    if (known !== undefined && known.schemaVersion === snapshot.schemaVersion && known.version > snapshot.version) return;
    this.#snapshots.set(entityKey(entity), snapshot);
  }

  async close(): Promise<void> {}
}

/** Null unless the same events were appended together before. */
function repeated(known: readonly RecordedEvent[], prepared: readonly PreparedEvent[]): AppendResult {
  const [first] = known;
  const last = known.at(-1);
  const same = prepared.every(({ id, type, dataJson }, index) => {
    const event = known[index];
    return event?.id === id && event.type === type && event.dataJson === dataJson && event.sequence === first!.sequence + index;
  });
  if (!same || last === undefined) throw idConflict();
  return { status: 'repeated', version: last.sequence, position: last.position };
}
