/**
 * Decodes a message into an event, or into the reason why it is none (src/README.md, section 3). Never throws, whatever
 * the bytes. No other code in Inorder interprets messages; in particular nothing trusts `x-death` or a replay
 * header, which anybody can forge.
 *
 *   size ─▶ format ─▶ raw fields (envelope, CloudEvents) ─▶ validation ─▶ event
 *     └────────┴──────────┴─▶ what can still be read ─▶ refusal
 *
 * Size and format are decided without reading the body.
 * Left to the sequencer: whether a missing sequence is allowed, and how far ahead a sequence may be.
 */
import { hasAttributes, unreadVersionHeader, readBinary, readStructured, isStructured, structuredFields } from './cloudevents.ts';
import type { Decoded, EventLimits, RawMessage } from './event.ts';
import { glimpsed } from './glimpse.ts';
import { quoted, exactNumber, memberOf, readDocument } from './json-body.ts';
import { malformed, type Problem, type RawFields, type ReadRawFields, unreadable, unsupported, memberNames } from './raw-fields.ts';
import { type DecodeOptions, validate } from './validation.ts';

export type { DecodeOptions } from './validation.ts';

export function decodeMessage(message: RawMessage, options: DecodeOptions): Decoded {
  const { limits } = options;
  const raw = rawFieldsOf(message, limits);
  const decoded = validate(raw.isComplete ? raw : glimpsed(raw, message, limits), message, options);
  const unread = decoded.ok ? null : unreadVersionHeader(message.headers);
  if (decoded.ok || unread === null) return decoded;
  const detail = `${decoded.refusal.detail}; the prefix of ${quoted(unread)} is not read: send attributes as cloudEvents:`;
  return { ok: false, refusal: { ...decoded.refusal, detail } };
}

function rawFieldsOf(message: RawMessage, limits: EventLimits): RawFields {
  const tooLarge = sizeProblem(message, limits);
  if (tooLarge !== null) return unreadable(memberNames, tooLarge);
  const format = formatOf(message);
  return format.read === null ? unreadable(memberNames, format.problem) : format.read(message, limits);
}

type Format = { readonly read: ReadRawFields; readonly problem: null } | { readonly read: null; readonly problem: Problem };

const envelope: Format = { read: readEnvelope, problem: null };
const structured: Format = { read: readStructured, problem: null };
const binary: Format = { read: readBinary, problem: null };

export function formatOf(message: RawMessage): Format {
  const { contentType, contentEncoding, headers } = message;
  if (!readsEncoding(contentEncoding))
    return refuse(unsupported(`the content encoding ${quoted(contentEncoding ?? '')} is not one that is read: send plain UTF-8`));
  if (contentType === 'application/json' && !hasAttributes(headers)) return envelope;
  const [mediaType = '', ...parameters] = (contentType ?? '')
    .toLowerCase()
    .split(';')
    .map((part) => part.trim());
  if (!parameters.every(readsParameter)) return refuse(unsupported('the charset of the content type is not UTF-8'));
  if (mediaType === 'application/cloudevents+json') return structured;
  if (hasAttributes(headers)) {
    return isJson(mediaType)
      ? binary
      : refuse(malformed(`the content type of the CloudEvent's data is ${quoted(mediaType)}, and only JSON is read`));
  }
  if (mediaType === '' || mediaType === 'application/json') return envelope;
  if (mediaType === 'application/cloudevents-batch+json')
    return refuse(malformed('it is a batch of CloudEvents: publish one message for each event'));
  return refuse(
    malformed(`the content type is ${quoted(mediaType)}: it has to be application/json, or application/cloudevents+json for a CloudEvent`),
  );
}

/** Null when the message is within its limits. */
function sizeProblem({ body, headers, unreadable }: RawMessage, { maxBodyBytes, maxHeaderBytes }: EventLimits): Problem | null {
  if (body.length > maxBodyBytes) {
    return { reason: 'too_large', detail: `the body has ${body.length} bytes, the limit is ${maxBodyBytes}` };
  }
  if (unreadable) return { reason: 'too_large', detail: 'the headers nest too deep to be read' };
  if (headersExceed(headers, maxHeaderBytes)) {
    return { reason: 'too_large', detail: `the headers have more than ${maxHeaderBytes} bytes` };
  }
  return null;
}

/** Stops at the limit, and uses a list instead of recursion, because headers may nest to any depth. */
function headersExceed(headers: Readonly<Record<string, unknown>>, limit: number): boolean {
  let bytes = 0;
  const pending: unknown[] = [headers];
  while (pending.length > 0 && bytes <= limit) {
    const value = pending.pop();
    if (typeof value === 'string') bytes += Buffer.byteLength(value);
    else if (value instanceof Uint8Array) bytes += value.length;
    else if (typeof value === 'object' && value !== null) {
      for (const [key, item] of Object.entries(value)) {
        bytes += Buffer.byteLength(key);
        pending.push(item);
      }
    } else bytes += 8;
  }
  return bytes > limit;
}

function refuse(problem: Problem): Format {
  return { read: null, problem };
}

function readsEncoding(encoding: string | undefined): boolean {
  return encoding === undefined || /^(?:|identity|utf-?8)$/i.test(encoding);
}

function readsParameter(parameter: string): boolean {
  return !parameter.startsWith('charset=') || /^charset="?utf-?8"?$/.test(parameter);
}

function isJson(mediaType: string): boolean {
  return mediaType === '' || mediaType === 'application/json' || mediaType.endsWith('+json');
}

/** The version of the envelope that this code reads, and the default. */
const schemaVersion = 1;

/**
 * Reads the JSON envelope: `{"id","entity_type","entity_id","sequence","type","timestamp","data","metadata"}`.
 * Unknown members are ignored, so that producers may add some; null counts as absent.
 */
function readEnvelope({ body }: RawMessage, limits: EventLimits): RawFields {
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
