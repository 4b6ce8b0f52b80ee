/**
 * Reads the JSON envelope: `{"id","entity_type","entity_id","sequence","type","timestamp","data","metadata"}`.
 * Unknown members are ignored, so that producers may add some; null counts as absent.
 */
import { type RawFields, type FieldNames, malformed, unreadable, unsupported } from './raw-fields.ts';
import { isStructured, structuredFields } from './cloudevents.ts';
import type { EventLimits, RawMessage } from './event.ts';
import { exactNumber, memberOf, readDocument } from './json-body.ts';

export const memberNames: FieldNames = {
  id: 'id',
  entityType: 'entity_type',
  entityId: 'entity_id',
  sequence: 'sequence',
  type: 'type',
  timestamp: 'timestamp',
};

/** The version of the envelope that this code reads, and the default. */
const schemaVersion = 1;

export function readEnvelope({ body }: RawMessage, limits: EventLimits): RawFields {
  const document = readDocument(body, limits);
  if (!document.ok) return unreadable(memberNames, malformed(document.detail));
  const { value, members } = document;
  if (isStructured(value)) return structuredFields(document);
  const data = memberOf(members, 'data');
  return {
    names: memberNames,
    isComplete: true,
    problem:
      value.schema_version == null || value.schema_version === schemaVersion ? null : unsupported(`schema_version is not ${schemaVersion}`),
    id: value.id,
    entityType: value.entity_type,
    entityId: value.entity_id,
    sequence: value.sequence == null ? null : exactNumber(value.sequence, memberOf(members, 'sequence')),
    type: value.type,
    timestamp: value.timestamp,
    metadata: value.metadata,
    data: value.data ?? null,
    dataJson: data?.source ?? 'null',
    dataCanonical: data?.canonical ?? 'null',
    envelope: members,
  };
}
