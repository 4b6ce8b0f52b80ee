/**
 * Reads CloudEvents 1.0 in both modes: structured (one JSON document) and binary (attributes in headers, data
 * in the body). `subject` is the entity id; the extensions `sequence` (a number, or the digits that the
 * sequence extension makes of it) and `entitytype` do the rest; every other attribute becomes metadata.
 *
 * The `cloudevents` package is not used: it binds HTTP, Kafka and MQTT but not AMQP, brings network transports
 * and a schema compiler into a pure folder, and parses into numbers that have lost their text.
 */
import { cloudEventsPrefixes } from './cloudevents-headers.ts';
import { type Claims, type FieldNames, malformed, noClaims, type Problem, unreadable, unsupported } from './claims.ts';
import type { EventLimits, RawMessage } from './event.ts';
import { exactNumber, memberOf } from './envelope.ts';
import { isJsonObject, kindOf, readJsonBody } from './json-body.ts';
import { scanJson, scanMembers } from './json-scan.ts';
import { fromAmqpTimestamp, timeText } from './timestamp.ts';

const names: FieldNames = {
  id: 'id',
  entityType: 'entitytype',
  entityId: 'subject',
  sequence: 'sequence',
  type: 'type',
  timestamp: 'time',
};

/** Attributes that have a place of their own in an event. */
export const placedAttributes: ReadonlySet<string> = new Set([
  'specversion',
  'id',
  'type',
  'time',
  'subject',
  'sequence',
  'entitytype',
  'datacontenttype',
  'data',
  'data_base64',
]);

/** What CloudEvents allows as the name of an attribute; `__proto__` is none. */
export const attributeName = /^[a-z0-9]+$/;

type Attributes = Readonly<Record<string, unknown>>;

export function readStructured({ body }: RawMessage, limits: EventLimits): Claims {
  const json = readJsonBody(body);
  if (!json.ok) return unreadable(names, malformed(json.detail));
  const { value } = json;
  if (!isJsonObject(value)) return unreadable(names, malformed(`the body is ${kindOf(value)}, not an object`));
  const scan = scanMembers(json.text, limits.maxJsonDepth);
  if (!scan.ok) return unreadable(names, malformed(`the body is refused: ${scan.detail}`));
  const data = memberOf(scan.found, 'data');
  return {
    ...claimsOf(value),
    problem: attributeProblem(value) ?? (value.data_base64 == null ? null : unsupported('data_base64 is binary data, and only JSON is read')),
    sequence: typeof value.sequence === 'number' ? exactNumber(value.sequence, memberOf(scan.found, 'sequence')) : sequenceOf(value.sequence),
    data: value.data ?? null,
    dataJson: data?.source ?? 'null',
    dataCanonical: data?.canonical ?? 'null',
  };
}

export function readBinary({ body, headers }: RawMessage, limits: EventLimits): Claims {
  const attributes = attributesOf(headers);
  const claims = { ...claimsOf(attributes), sequence: sequenceOf(attributes.sequence) };
  const problem = attributeProblem(attributes);
  if (body.length === 0) return { ...claims, problem };
  const json = readJsonBody(body);
  if (!json.ok) return { ...claims, problem: problem ?? malformed(json.detail) };
  const scan = scanJson(json.text, limits.maxJsonDepth);
  if (!scan.ok) return { ...claims, problem: problem ?? malformed(`the body is refused: ${scan.detail}`) };
  return { ...claims, problem, data: json.value, dataJson: json.text.trim(), dataCanonical: scan.found };
}

/** Whether the headers say that this is a CloudEvent in binary mode. */
export function hasAttributes(headers: Readonly<Record<string, unknown>>): boolean {
  return Object.hasOwn(headers, 'cloudEvents:specversion') || Object.hasOwn(headers, 'cloudEvents_specversion');
}

function claimsOf(attributes: Attributes): Claims {
  return {
    ...noClaims(names),
    id: attributes.id,
    entityType: attributes.entitytype,
    entityId: attributes.subject,
    type: attributes.type,
    timestamp: attributes.time,
    metadata: metadataOf(attributes),
  };
}

function attributeProblem({ specversion, id, source }: Attributes): Problem | null {
  if (typeof specversion !== 'string') return malformed('the CloudEvent has no specversion');
  if (specversion !== '1.0') return unsupported('specversion is not 1.0');
  if (id == null) return malformed('id is missing');
  if (typeof source !== 'string' || source === '') return malformed('source is missing');
  return null;
}

function metadataOf(attributes: Attributes): Record<string, unknown> {
  const metadata: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (!placedAttributes.has(name) && value !== null) metadata[name] = value;
  }
  return metadata;
}

/** Plain digits are what the sequence extension makes of a number; "0x10", "1e3" and " 7 " are not. */
function sequenceOf(value: unknown): number | null {
  if (value == null) return null;
  if (typeof value === 'number') return value;
  return typeof value === 'string' && /^[0-9]{1,32}$/.test(value) ? Number(value) : Number.NaN;
}

function attributesOf(headers: Readonly<Record<string, unknown>>): Attributes {
  const attributes: Record<string, unknown> = {};
  for (const [header, value] of Object.entries(headers)) {
    const prefix = cloudEventsPrefixes.find((candidate) => header.startsWith(candidate));
    const name = prefix === undefined ? '' : header.slice(prefix.length);
    if (attributeName.test(name)) attributes[name] = plainValue(value);
  }
  return attributes;
}

/** The AMQP client gives timestamps as `{ '!': 'timestamp', value }`. One that makes no time stays what it is, and is refused as such. */
function plainValue(value: unknown): unknown {
  if (!isJsonObject(value) || value['!'] !== 'timestamp') return value;
  const ms = fromAmqpTimestamp(value.value);
  return ms === null ? value : timeText(ms);
}
