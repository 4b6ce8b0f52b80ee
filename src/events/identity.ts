/**
 * Identities: event ids, payload hashes and message fingerprints. All are truncated
 * SHA-256 of bytes or canonical JSON, so every worker computes the same.
 */
import { hash } from 'node:crypto';
import { isCloudEventsHeader } from './cloudevents.ts';
import type { EntityRef, RawMessage } from './event.ts';
import { canonicalObject, type JsonMember } from './json-scanner.ts';

const hexDigits = 32;
const base64Characters = 16;

/** The first 32 hex digits of the SHA-256 of a body. */
export function fingerprint(body: Uint8Array): string {
  return hash('sha256', body, 'hex').slice(0, hexDigits);
}

/**
 * The fingerprint of a message: 32 hex digits over its body and everything else that decides how it is read, because the same
 * bytes can be another event with other headers. Headers that the broker adds are left out.
 */
export function messageFingerprint({ body, routingKey, contentType, contentEncoding, headers }: RawMessage): string {
  const attributes = Object.entries(headers)
    .filter(([name]) => isCloudEventsHeader(name))
    .map(([name, value]) => [name, attributeText(value)])
    .sort(([a = ''], [b = '']) => (a < b ? -1 : 1));
  const readAs = JSON.stringify([routingKey, contentType ?? null, contentEncoding ?? null, attributes]);
  return fingerprint(Buffer.concat([Buffer.from(`${readAs}\n`), body]));
}

/**
 * Attributes are plain values or timestamps, which the AMQP client gives as `{ '!': 'timestamp', value }`. Other tables or lists
 * are no attributes, and are not converted to text: a key `toString` would be called as a method.
 */
function attributeText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if (value instanceof Uint8Array) return fingerprint(value);
  return 'value' in value && typeof value.value === 'number' ? `@${value.value}` : 'no attribute';
}

/** The id of an event without one: the first 32 hex digits of the SHA-256 of the canonical envelope. */
export function derivedId(envelope: readonly Pick<JsonMember, 'key' | 'canonical'>[]): string {
  return hash('sha256', canonicalObject(envelope), 'hex').slice(0, hexDigits);
}

/** 16 base64url characters (96 bits) over the type and the canonical data. */
export function payloadHash(type: string, canonicalData: string): string {
  return hash('sha256', `${JSON.stringify(type)}${canonicalData}`, 'base64url').slice(0, base64Characters);
}

/** A unique text for each entity, whatever characters its names have. */
export function entityKey({ entityType, entityId }: EntityRef): string {
  return `${entityType.length} ${entityType}${entityId}`;
}

/** A choice of entities: one, those of a type, or all. */
export interface EntityChoice {
  /** Null: all entities of the type. */
  readonly entityId: string | null;
  /** Null, with `entityId` null: all types. */
  readonly entityType: string | null;
}

/** From a command's arguments: the default type applies only to an id. */
export function entityChoice(entityId: string | undefined, type: string | null, defaultType: string): EntityChoice {
  return { entityId: entityId ?? null, entityType: type ?? (entityId === undefined ? null : defaultType) };
}

/** The single chosen entity, or null. */
export function oneOf({ entityId, entityType }: EntityChoice): EntityRef | null {
  return entityId === null || entityType === null ? null : { entityType, entityId };
}

export function isChosen(choice: EntityChoice, { entityId, entityType }: EntityRef): boolean {
  return (choice.entityId === null || choice.entityId === entityId) && (choice.entityType === null || choice.entityType === entityType);
}

export function choiceText({ entityId, entityType }: EntityChoice): string {
  if (entityId !== null) return `${entityType} ${JSON.stringify(entityId)}`;
  return entityType === null ? 'all entities' : `all entities of type ${JSON.stringify(entityType)}`;
}
