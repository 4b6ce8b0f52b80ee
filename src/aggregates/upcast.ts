/**
 * Old events in today's form. An event says by `schema_version` in its metadata how its data are made; an aggregate that
 * lists upcasters for its type sees the newest version only. The event as it was written stays what it is: `dataJson` is
 * untouched.
 */
import type { Event } from '../events/event.ts';
import type { AnyAggregate } from './definition.ts';

/** Where an event's metadata say it. */
export const schemaVersionKey = 'schema_version';

export type Upcasted = { readonly ok: true; readonly event: Event } | { readonly ok: false; readonly detail: string };

/** The version in which new events of the type are written; null where the aggregate tells none apart. */
export function newestSchemaVersion(aggregate: AnyAggregate, eventType: string): number | null {
  const steps = aggregate.upcast.get(eventType);
  return steps === undefined ? null : steps.length + 1;
}

/** Throws what an upcaster throws. */
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
