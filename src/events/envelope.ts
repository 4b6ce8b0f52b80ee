/**
 * Reads the JSON envelope: `{"id","entity_type","entity_id","sequence","type","timestamp","data","metadata"}`.
 * Members it does not know are let pass, so that producers may add some; a null is as good as nothing.
 */
import { type Claims, type FieldNames, malformed, unreadable, unsupported } from './claims.ts';
import type { EventLimits, RawMessage } from './event.ts';
import { isJsonObject, kindOf, readJsonBody } from './json-body.ts';
import { type JsonMember, scanMembers } from './json-scan.ts';

const names: FieldNames = {
  id: 'id',
  entityType: 'entity_type',
  entityId: 'entity_id',
  sequence: 'sequence',
  type: 'type',
  timestamp: 'timestamp',
};

/** The version of the envelope that this code reads; a producer that names none means this one. */
const schemaVersion = 1;

export function readEnvelope({ body }: RawMessage, limits: EventLimits): Claims {
  const json = readJsonBody(body);
  if (!json.ok) return unreadable(names, malformed(json.detail));
  const { value } = json;
  if (!isJsonObject(value)) return unreadable(names, malformed(`the body is ${kindOf(value)}, not an object`));
  const scan = scanMembers(json.text, limits.maxJsonDepth);
  if (!scan.ok) return unreadable(names, malformed(`the body is refused: ${scan.detail}`));
  const data = memberOf(scan.found, 'data');
  return {
    names,
    problem: value.schema_version == null || value.schema_version === schemaVersion ? null : unsupported(`schema_version is not ${schemaVersion}`),
    id: value.id,
    entityType: value.entity_type,
    entityId: value.entity_id,
    sequence: value.sequence == null ? null : exactNumber(value.sequence, memberOf(scan.found, 'sequence')),
    type: value.type,
    timestamp: value.timestamp,
    metadata: value.metadata,
    data: value.data ?? null,
    dataJson: data?.source ?? 'null',
    dataCanonical: data?.canonical ?? 'null',
    envelope: scan.found,
  };
}

export function memberOf(members: readonly JsonMember[], key: string): JsonMember | undefined {
  return members.find((member) => member.key === key);
}

/** A number as it was written: 9007199254740991.4 is not 9007199254740991, though a JavaScript number says so. */
export function exactNumber(value: unknown, member: JsonMember | undefined): number {
  return typeof value === 'number' && member?.canonical === String(value) ? value : Number.NaN;
}
