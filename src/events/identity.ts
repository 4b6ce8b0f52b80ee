/**
 * What makes two things the same: events by id, payloads by hash, messages by fingerprint. All of them are
 * SHA-256, cut to what their place in the store allows, and made from bytes or canonical JSON alone, so every
 * worker computes the same.
 */
import { hash } from 'node:crypto';
import { isCloudEventsHeader } from './cloudevents-headers.ts';
import type { EntityRef, RawMessage } from './event.ts';
import { canonicalObject, type JsonMember } from './json-scanner.ts';

const hexDigits = 32;
const base64Characters = 16;

/** Of bytes: the first 32 hex digits of their SHA-256. */
export function fingerprint(body: Uint8Array): string {
  return hash('sha256', body, 'hex').slice(0, hexDigits);
}

/**
 * Of one message: of its body and of everything else that decides how it is read, because the same bytes can be
 * another event under other headers. What the broker adds on the way is left out. 32 hex digits.
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
 * Attributes are plain values or timestamps, which the AMQP client gives as `{ '!': 'timestamp', value }`. Any other
 * table or list is no attribute, and is not asked for a text of its own: a `toString` among its keys would be taken for the method.
 */
function attributeText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if (value instanceof Uint8Array) return fingerprint(value);
  return 'value' in value && typeof value.value === 'number' ? `@${value.value}` : 'no attribute';
}

/** The id of an event whose producer gave none: the first 32 hex digits of the SHA-256 of the canonical envelope. */
export function derivedId(envelope: readonly Pick<JsonMember, 'key' | 'canonical'>[]): string {
  return hash('sha256', canonicalObject(envelope), 'hex').slice(0, hexDigits);
}

/** 16 base64url characters (96 bits) over the type and the canonical data. */
export function payloadHash(type: string, canonicalData: string): string {
  return hash('sha256', `${JSON.stringify(type)}${canonicalData}`, 'base64url').slice(0, base64Characters);
}

/** The same for the same entity, and for no other, whatever characters are in its names. */
export function entityKey({ entityType, entityId }: EntityRef): string {
  return `${entityType.length} ${entityType}${entityId}`;
}

/** Which entities something is for: one, those of a type, or all. */
export interface EntityChoice {
  /** Null: all of the type. */
  readonly entityId: string | null;
  /** Null: of every type, where `entityId` is null as well. */
  readonly entityType: string | null;
}

/** As a command is given them: the default type is only that of an id. */
export function entityChoice(entityId: string | undefined, type: string | null, defaultType: string): EntityChoice {
  return { entityId: entityId ?? null, entityType: type ?? (entityId === undefined ? null : defaultType) };
}

/** Null where several are chosen. */
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
