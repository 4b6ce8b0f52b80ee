/**
 * An event as the decoder gives it, for tests that need one and care about a field or two.
 */
import type { Event } from '../../src/events/event.ts';

export function eventOf(fields: Partial<Event> = {}): Event {
  const { data = null } = fields;
  return {
    id: 'e-1',
    idDerived: false,
    entityType: 'thing',
    entityId: 'a',
    sequence: 1,
    type: 'Happened',
    timestamp: null,
    timestampMs: null,
    data,
    dataJson: JSON.stringify(data),
    metadata: {},
    payloadHash: 'hash-of-16-chars',
    ...fields,
  };
}
