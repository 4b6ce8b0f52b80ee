/**
 * The source of missing events: the event store, or a module of the operator. It is asked for exactly the missing sequences,
 * and its events are validated like messages: an event that a worker would refuse is ignored.
 */
import { PermanentError } from '../errors.ts';
import { type EncodedEvent, encodeEvent } from '../events/encode.ts';
import type { EntityRef, EventLimits } from '../events/event.ts';
import type { NewEvent } from '../events/new-event.ts';

/** The request for missing events. */
export interface MissingEvents {
  readonly entity: EntityRef;
  /** First missing sequence. */
  readonly from: number;
  /** Last missing sequence. */
  readonly to: number;
  /** Aborted when the answer is no longer needed. */
  readonly signal: AbortSignal;
}

/**
 * Returns the events of `entity` from `from` to `to`, without those that it lacks. It is asked again later
 * for these, and after it throws. The events may omit entity type and id.
 */
export type GapSource = (missing: MissingEvents) => AsyncIterable<NewEvent> | Iterable<NewEvent> | Promise<Iterable<NewEvent>>;

/** The source's events in the order of their sequences, each once. @throws PermanentError when it returns others than asked for. */
export async function readMissing(source: GapSource, missing: MissingEvents, limits: EventLimits): Promise<readonly EncodedEvent[]> {
  const found = new Map<number, EncodedEvent>();
  for await (const event of await source(missing)) {
    const encoded = encodeEvent({ ...missing.entity, ...event }, { limits });
    const { entityType, entityId, sequence } = encoded.event;
    if (entityType !== missing.entity.entityType || entityId !== missing.entity.entityId) {
      throw new PermanentError('the source gave an event of another entity');
    }
    if (sequence === null || sequence < missing.from || sequence > missing.to) {
      throw new PermanentError(
        `the source was asked for ${missing.from} to ${missing.to} and gave ${sequence ?? 'an event without a sequence'}`,
      );
    }
    found.set(sequence, encoded);
  }
  return [...found].sort(([a], [b]) => a - b).map(([, event]) => event);
}
