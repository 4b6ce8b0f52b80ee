/**
 * Reads CloudEvents 1.0 in both modes: structured (one JSON document, also with the content type of plain JSON) and binary
 * (attributes in headers, data in the body). `subject` is the entity id; the extensions are `sequence` (a number, or its digits as
 * text, as the sequence extension defines it) and `entitytype`; every other attribute becomes metadata.
 *
 * The `cloudevents` package is not used: it supports HTTP, Kafka and MQTT but not AMQP, would bring network transports
 * and a schema compiler into a pure folder, and loses the text of numbers.
 */
import type { EventLimits, RawMessage } from './event.ts';
import { isJsonObject, quoted, readJsonBody, exactNumber, type JsonDocument, memberOf, readDocument } from './json-body.ts';
import { scanJson } from './json-scanner.ts';
import { type RawFields, type FieldNames, malformed, noRawFields, type Problem, unreadable, unsupported } from './raw-fields.ts';
import { fromAmqpTimestamp, timeText } from './timestamp.ts';

export const attributeNames: FieldNames = {
  id: 'id',
  entityType: 'entitytype',
  entityId: 'subject',
  sequence: 'sequence',
  type: 'type',
  timestamp: 'time',
};

/** Attributes that become fields of an event. */
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

/** Attributes by which an event, its entity or its rule is found. */
const identifying: ReadonlySet<string> = new Set(['id', 'subject', 'type', 'entitytype']);

type Attributes = Readonly<Record<string, unknown>>;

export function readStructured({ body }: RawMessage, limits: EventLimits): RawFields {
  const document = readDocument(body, limits);
  return document.ok ? structuredFields(document) : unreadable(attributeNames, malformed(document.detail));
}

/** Whether a JSON object without a content type can only be a CloudEvent. */
export function isStructured(value: Attributes): boolean {
  return typeof value.specversion === 'string' && (value.source ?? value.subject) !== undefined && value.entity_id === undefined;
}

export function structuredFields({ value, members }: JsonDocument): RawFields {
  const data = memberOf(members, 'data');
  return {
    ...rawFieldsOf(value),
    problem:
      attributeProblem(value) ?? (value.data_base64 == null ? null : unsupported('data_base64 is binary data, and only JSON is read')),
    sequence: typeof value.sequence === 'number' ? exactNumber(value.sequence, memberOf(members, 'sequence')) : sequenceOf(value.sequence),
    data: value.data ?? null,
    dataJson: data?.source ?? 'null',
    dataCanonical: data?.canonical ?? 'null',
  };
}

export function readBinary({ body, headers }: RawMessage, limits: EventLimits): RawFields {
  const found = attributeHeaders(headers);
  const attributes = attributesOf(found);
  const raw = rawFieldsOf(attributes);
  const problem = attributeProblem(attributes) ?? encodingProblem(found);
  if (body.length === 0) return { ...raw, problem };
  const json = readJsonBody(body);
  if (!json.ok) return { ...raw, problem: problem ?? malformed(json.detail) };
  const scan = scanJson(json.text, limits.maxJsonDepth);
  if (!scan.ok) return { ...raw, problem: problem ?? malformed(`the body is refused: ${scan.detail}`) };
  return { ...raw, problem, data: json.value, dataJson: json.text.trim(), dataCanonical: scan.found };
}

export function rawFieldsOf(attributes: Attributes): RawFields {
  return {
    ...noRawFields(attributeNames),
    id: attributes.id,
    entityType: attributes.entitytype,
    entityId: attributes.subject,
    type: attributes.type,
    sequence: sequenceOf(attributes.sequence),
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

/** The sequence extension is text of plain digits; "0x10", "1e3" and " 7 " are not. */
function sequenceOf(value: unknown): number | null {
  if (value == null) return null;
  if (typeof value === 'number') return value;
  return typeof value === 'string' && /^[0-9]{1,32}$/.test(value) ? Number(value) : Number.NaN;
}

export function attributesOf(headers: readonly AttributeHeader[]): Attributes {
  const attributes: Record<string, unknown> = {};
  for (const { name, value } of headers) attributes[name] = plainValue(value);
  return attributes;
}

/** HTTP percent-encodes non-ASCII text, AMQP does not: `caf%C3%A9` from another binding is ambiguous, which matters in names. */
function encodingProblem(headers: readonly AttributeHeader[]): Problem | null {
  const doubtful = headers.find(
    ({ name, value, isForeign }) => isForeign && identifying.has(name) && typeof value === 'string' && /%[0-9a-f]{2}/i.test(value),
  );
  if (doubtful === undefined) return null;
  return malformed(
    `the header ${quoted(doubtful.header)} of another binding has a value with %, which may be encoded: send attributes as cloudEvents:`,
  );
}

/** The AMQP client gives timestamps as `{ '!': 'timestamp', value }`. An invalid one is kept, and refused later. */
function plainValue(value: unknown): unknown {
  if (!isJsonObject(value) || value['!'] !== 'timestamp') return value;
  const ms = fromAmqpTimestamp(value.value);
  return ms === null ? value : timeText(ms);
}

/*
 * The AMQP binding uses the prefix `cloudEvents:`, or `cloudEvents_` for brokers that cannot filter on a colon. Bridges and sidecars
 * may pass on the prefixes of other bindings (HTTP `ce-`, Kafka `ce_`) or another case: these are read if there is none of AMQP,
 * and only one prefix at a time.
 */
const own = ['cloudEvents:', 'cloudEvents_'] as const;
const foreign = ['cloudevents:', 'cloudevents_', 'ce-', 'ce_'] as const;

type Headers = Readonly<Record<string, unknown>>;

/** The attribute names that CloudEvents allows; excludes `__proto__`. */
export const attributeName = /^[a-z0-9]+$/;

/** A header with an attribute of a binary CloudEvent. */
interface AttributeHeader {
  readonly header: string;
  /** The name of the attribute. */
  readonly name: string;
  readonly value: unknown;
  /** From another binding, whose values may be encoded differently. */
  readonly isForeign: boolean;
}

/** Whether the headers mark a CloudEvent in binary mode. Called for every message. */
export function hasAttributes(headers: Headers): boolean {
  for (const header in headers) {
    if (
      /specversion$/i.test(header) &&
      // The client assigns a header named `__proto__`, from which the others would then inherit.
      Object.hasOwn(headers, header) &&
      foreign.some((prefix) => header.length === prefix.length + 'specversion'.length && startsAs(header, prefix))
    )
      return true;
  }
  return false;
}

/** For a refused message: a header that would make it a CloudEvent if its prefix were supported. */
export function unreadVersionHeader(headers: Headers): string | null {
  return hasAttributes(headers)
    ? null
    : (Object.keys(headers).find((header) => /^(?:cloud-?events?|ce)[^a-z0-9]specversion$/i.test(header)) ?? null);
}

export function isCloudEventsHeader(header: string): boolean {
  return foreign.some((prefix) => startsAs(header, prefix));
}

export function attributeHeaders(headers: Headers): readonly AttributeHeader[] {
  const found = Object.entries(headers).flatMap(([header, value]): AttributeHeader[] => {
    const ownPrefix = own.find((prefix) => header.startsWith(prefix));
    const prefix = ownPrefix ?? foreign.find((candidate) => startsAs(header, candidate));
    if (prefix === undefined) return [];
    // Go writes `Ce-Specversion`; the AMQP binding has lower-case names.
    const rest = header.slice(prefix.length);
    const name = ownPrefix === undefined ? rest.toLowerCase() : rest;
    return attributeName.test(name) ? [{ header, name, value, isForeign: ownPrefix === undefined }] : [];
  });
  const versions = found.filter(({ name }) => name === 'specversion');
  if (versions.some(({ isForeign }) => !isForeign)) return found.filter(({ isForeign }) => !isForeign);
  const [first] = versions;
  const prefix = first?.header.slice(0, -'specversion'.length).toLowerCase() ?? '';
  return found.filter(({ header }) => startsAs(header, prefix));
}

/** `prefix` is in lower case. */
function startsAs(header: string, prefix: string): boolean {
  return header.slice(0, prefix.length).toLowerCase() === prefix;
}
