/**
 * A dead letter as one line of NDJSON in the envelope, so that it can be corrected and published again. An envelope is
 * given as it is, well or ill; of a CloudEvent one is made, with the data as the producer wrote it.
 */
import { hasAttributes } from '../events/cloudevents-headers.ts';
import { attributeNames, isStructured, placedAttributes } from '../events/cloudevents.ts';
import { memberNames } from '../events/envelope.ts';
import type { Decoded } from '../events/event.ts';
import { scanMembers } from '../events/json-scan.ts';
import type { DeadLetter } from './dead-letter.ts';
import { compactJson } from './json-layout.ts';

/** Null when its body is not JSON, or would have to be the whole event and is not one object. */
export function asEventLine({ message }: DeadLetter, decoded: Decoded): string | null {
  const text = compactJson(Buffer.from(message.body).toString().replace(/^\ufeff/, ''));
  if (hasAttributes(message.headers)) return text === null && message.body.byteLength > 0 ? null : envelopeLine(decoded, text);
  if (!text?.startsWith('{')) return null;
  if (!isStructured(JSON.parse(text))) return `${text}\n`;
  return decoded.ok ? envelopeLine(decoded, compactJson(decoded.event.dataJson)) : `${renamed(text) ?? text}\n`;
}

/** A structured CloudEvent that is refused, as it was written but for the names. Null where an envelope has no place for what it says. */
function renamed(text: string): string | null {
  const scan = scanMembers(text, Number.POSITIVE_INFINITY);
  if (!scan.ok) return null;
  const members = new Map(scan.found.map(({ key, source }) => [key, source]));
  if (members.has('data_base64')) return null;
  const fields = (['id', 'entityType', 'entityId', 'sequence', 'type', 'timestamp'] as const).flatMap((field) => {
    const source = members.get(attributeNames[field]);
    return source === undefined ? [] : [`"${memberNames[field]}":${field === 'sequence' ? source.replace(/^"(0|[1-9]\d*)"$/, '$1') : source}`];
  });
  const metadata = [...members].filter(([key]) => !placedAttributes.has(key)).map(([key, source]) => `${JSON.stringify(key)}:${source}`);
  return `{${[...fields, `"metadata":{${metadata.join(',')}}`, `"data":${members.get('data') ?? 'null'}`].join(',')}}`;
}

/** Of a CloudEvent; of a binary one that is refused what could be read. */
function envelopeLine(decoded: Decoded, data: string | null): string {
  const { id, entityType, entityId, sequence, type } = decoded.ok ? decoded.event : decoded.refusal;
  const { timestamp, metadata } = decoded.ok ? decoded.event : { timestamp: null, metadata: null };
  const fields = { id, entity_type: entityType, entity_id: entityId, sequence, type, timestamp, metadata };
  const known = Object.entries(fields).filter(([, value]) => value !== null);
  return `${JSON.stringify(Object.fromEntries(known)).slice(0, -1)},"data":${data ?? 'null'}}\n`;
}
