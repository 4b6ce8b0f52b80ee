/**
 * Commits on their way from the sequencer's decision to the store: prepared once, kept until they are answered.
 * A commit that is asked for again goes out as it was, under the same token, and its handlers do not run again.
 */
import { InvariantError, messageOf } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import type { Fact } from '../ordering/facts.ts';
import type { CommitResult, Parked, RecallQuery, RecallResult, Snapshot } from '../stores/store.ts';
import { type CommitEffect, type PreparationOptions, type Prepared, prepare, recordsId } from './preparation.ts';
import type { CachedState, StateCache } from './state-cache.ts';

/** What answers of the store bring besides facts. */
export interface Reading {
  /** A snapshot of the entity was read: its state is not loaded again. */
  seen(entity: EntityRef, snapshot: Snapshot): void;
  /** The entity's keys cannot be used: the fact that sets it aside for a while. */
  entityUnavailable(op: number, error: Error): Fact;
  /** What a handler returned for this delivery, now or when it was first processed. */
  remember(tag: number, result: string): void;
}

export interface PreparedCommitsOptions {
  /** What the tokens of all commits begin with. */
  readonly tokenPrefix: string;
  readonly states: StateCache;
  readonly preparation: PreparationOptions;
  readonly reading: Reading;
  /** A commit whose handlers have run: with a fact when nothing is left to be committed. */
  readonly later: (effect: CommitEffect, settled: Fact | null) => void;
  /** An entity has moved to this version, and is still parked. */
  readonly onStillParked: (entity: EntityRef, version: number, parked: Parked) => void;
  /** A commit has ended the parking of its entity. */
  readonly onUnparked: () => void;
}

/** The event that a handler would be given next: the index of its slot, and how to ask what is known of its id. */
export interface IdQuestion {
  readonly index: number;
  readonly query: RecallQuery;
}

/** What came of preparing: to be sent, settled without the store, or still running. */
export type Preparation = { readonly ready: Prepared } | { readonly settled: Fact } | 'running';

export class PreparedCommits {
  readonly #options: PreparedCommitsOptions;
  readonly #unanswered = new Map<number, Prepared>();

  constructor(options: PreparedCommitsOptions) {
    this.#options = options;
  }

  /** Handlers have side effects: an id that is known already is to be found before they run, not when they have. Null where there is nothing to ask. */
  questionOf(effect: CommitEffect): IdQuestion | null {
    const { processors } = this.#options.preparation;
    if (this.#unanswered.has(effect.op) || !processors.forType(effect.entity.entityType)?.handlers.length) return null;
    const index = effect.slots.findIndex(({ action }) => action === 'apply');
    const event = effect.slots[index]?.delivery.event;
    return event === undefined || !recordsId(event) ? null : { index, query: { ...effect.entity, sequence: null, id: event.id } };
  }

  /** The fact that ends the commit before any handler runs, because the event's id is known under another sequence; null when it is not. */
  knownFact(effect: CommitEffect, { index }: IdQuestion, result: RecallResult): Fact | null {
    const slot = effect.slots[index];
    if (slot === undefined) throw new InvariantError('an id was asked for a slot that is not there');
    const { reading } = this.#options;
    if (result.status === 'failed') return reading.entityUnavailable(effect.op, result.error);
    if (result.status !== 'known' || result.sequence === slot.sequence) return null;
    const { tag, event } = slot.delivery;
    const samePayload = result.payloadHash === event.payloadHash;
    if (samePayload && result.result !== null) reading.remember(tag, result.result);
    return { kind: 'idConflict', op: effect.op, conflicts: [{ index, recordedSequence: result.sequence, samePayload }] };
  }

  /** Null when the entity's state has to be loaded first. */
  begin(effect: CommitEffect): Preparation | null {
    const prepared = this.#unanswered.get(effect.op);
    if (prepared !== undefined) return { ready: prepared };
    const { entity, expectedVersion: version, expectedHoles: holes } = effect;
    const before = this.#options.states.take(entity, version, holes);
    return before === null ? null : this.#prepare(effect, before);
  }

  beginWith(effect: CommitEffect, snapshot: Snapshot): Preparation {
    const { version, holes, state: text } = snapshot;
    if (version === effect.expectedVersion && holes === effect.expectedHoles) {
      return this.#prepare(effect, { version, holes, text, parsed: null });
    }
    this.#options.reading.seen(effect.entity, snapshot);
    return { settled: { kind: 'stale', op: effect.op, snapshot } };
  }

  answered(prepared: Prepared, result: CommitResult): Fact {
    const { effect, done, failure, after } = prepared;
    const { op, entity } = effect;
    const { reading, states } = this.#options;
    if (result.status === 'failed') return reading.entityUnavailable(op, result.error);
    this.#unanswered.delete(op);
    switch (result.status) {
      case 'ok':
      case 'duplicate':
        states.put(entity, after);
        this.#rememberResults(prepared);
        if (result.status === 'ok' && result.unparked) this.#options.onUnparked();
        if (result.parked !== null && after.version > effect.expectedVersion) this.#options.onStillParked(entity, after.version, result.parked);
        return { kind: 'committed', op, done, parked: result.parked, failure };
      case 'stale':
        reading.seen(entity, result.snapshot);
        return { kind: 'stale', op, snapshot: result.snapshot };
      case 'conflict':
        return { kind: 'idConflict', op, conflicts: result.conflicts };
    }
  }

  clear(): void {
    this.#unanswered.clear();
  }

  #prepare(effect: CommitEffect, before: CachedState): Preparation {
    const { tokenPrefix, preparation, later } = this.#options;
    try {
      const prepared = prepare(effect, `${tokenPrefix}:${effect.op}`, before, preparation);
      if (!(prepared instanceof Promise)) return this.#keep(prepared);
      prepared.then(
        (done) => {
          if (done === null) return;
          const kept = this.#keep(done);
          later(effect, 'settled' in kept ? kept.settled : null);
        },
        (error: unknown) => later(effect, failed(effect, error)),
      );
      return 'running';
    } catch (error) {
      return { settled: failed(effect, error) };
    }
  }

  #keep(prepared: Prepared): { readonly ready: Prepared } | { readonly settled: Fact } {
    const { effect, failure } = prepared;
    if (prepared.commit === null) return { settled: { kind: 'committed', op: effect.op, done: 0, parked: null, failure } };
    this.#unanswered.set(effect.op, prepared);
    return { ready: prepared };
  }

  #rememberResults(prepared: Prepared): void {
    prepared.commit?.events.forEach(({ result }, index) => {
      const slot = prepared.effect.slots[index];
      if (result !== null && slot?.action === 'apply') this.#options.reading.remember(slot.delivery.tag, result);
    });
  }
}

/** A processor that broke where none should: its stored state cannot be read, or what it returned not be written. */
function failed(effect: CommitEffect, error: unknown): Fact {
  const detail = `the processor failed: ${messageOf(error)}`;
  return { kind: 'committed', op: effect.op, done: 0, parked: null, failure: { reason: 'handler_failed', detail } };
}
