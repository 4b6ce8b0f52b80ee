/**
 * What makes two things the same: events by id, payloads by hash, messages by fingerprint. All of them are
 * SHA-256, cut to what their place in the store allows, and made from bytes or canonical JSON alone, so every
 * worker computes the same.
 */
import { hash } from 'node:crypto';
import { canonicalObject, type JsonMember } from './json-scan.ts';

const hexDigits = 32;
const base64Characters = 16;

/** Of a body, byte for byte: the first 32 hex digits of its SHA-256. */
export function fingerprint(body: Uint8Array): string {
  return hash('sha256', body, 'hex').slice(0, hexDigits);
}

/** The id of an event whose producer gave none: the first 32 hex digits of the SHA-256 of the canonical envelope. */
export function derivedId(envelope: readonly Pick<JsonMember, 'key' | 'canonical'>[]): string {
  return hash('sha256', canonicalObject(envelope), 'hex').slice(0, hexDigits);
}

/** 16 base64url characters (96 bits) over the type and the canonical data. */
export function payloadHash(type: string, canonicalData: string): string {
  return hash('sha256', `${JSON.stringify(type)}${canonicalData}`, 'base64url').slice(0, base64Characters);
}
