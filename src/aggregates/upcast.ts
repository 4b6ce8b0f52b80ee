/**
 * Converts the data of old events to the newest schema version. `schema_version` in an event's metadata is its version; an
 * aggregate with upcasters for the type sees only the newest one. The event as written does not change: `dataJson` is
 * untouched.
 */
import type { Event } from '../events/event.ts';
import type { AnyAggregate } from './definition.ts';

/** The key in an event's metadata. */
export const schemaVersionKey = 'schema_version';

export type Upcasted = { readonly ok: true; readonly event: Event } | { readonly ok: false; readonly detail: string };

/** The version of new events of the type; null if the aggregate has no versions for it. */
export function newestSchemaVersion(aggregate: AnyAggregate, eventType: string): number | null {
  const steps = aggregate.upcast.get(eventType);
  return steps === undefined ? null : steps.length + 1;
}

/** Throws the errors of upcasters. */
export function upcastEvent(aggregate: AnyAggregate, event: Event): Upcasted {
  const steps = aggregate.upcast.get(event.type);
  if (steps === undefined) return { ok: true, event };
  const newest = steps.length + 1;
  const version = Object.hasOwn(event.metadata, schemaVersionKey) ? event.metadata[schemaVersionKey] : 1;
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 1) {
    return { ok: false, detail: `metadata.${schemaVersionKey} is not a whole number from 1 up` };
  }
  if (version > newest)
    return { ok: false, detail: `it is of schema version ${version}, and the aggregate knows versions up to ${newest}` };
  if (version === newest) return { ok: true, event };
  let { data } = event;
  for (const step of steps.slice(version - 1)) data = step(data, event);
  return { ok: true, event: { ...event, data } };
}
