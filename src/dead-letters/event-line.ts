/**
 * A dead letter as one line of NDJSON in the envelope, so that it can be corrected and published again. An envelope is
 * given as it is, well or ill; of a CloudEvent one is made, with the data as the producer wrote it.
 */
import { hasAttributes } from '../events/cloudevents-headers.ts';
import { isStructured } from '../events/cloudevents.ts';
import type { Decoded } from '../events/event.ts';
import type { DeadLetter } from './dead-letter.ts';
import { compactJson } from './json-layout.ts';

/** Null when its body is not JSON, or would have to be the whole event and is not one object. */
export function asEventLine({ message }: DeadLetter, decoded: Decoded): string | null {
  const text = compactJson(Buffer.from(message.body).toString().replace(/^\ufeff/, ''));
  if (hasAttributes(message.headers)) return text === null && message.body.byteLength > 0 ? null : envelopeLine(decoded, text);
  if (!text?.startsWith('{')) return null;
  return decoded.ok && isStructured(JSON.parse(text)) ? envelopeLine(decoded, compactJson(decoded.event.dataJson)) : `${text}\n`;
}

/** Of a CloudEvent; of one that is refused what could be read. */
function envelopeLine(decoded: Decoded, data: string | null): string {
  const { id, entityType, entityId, sequence, type } = decoded.ok ? decoded.event : decoded.refusal;
  const { timestamp, metadata } = decoded.ok ? decoded.event : { timestamp: null, metadata: null };
  const fields = { id, entity_type: entityType, entity_id: entityId, sequence, type, timestamp, metadata };
  const known = Object.entries(fields).filter(([, value]) => value !== null);
  return `${JSON.stringify(Object.fromEntries(known)).slice(0, -1)},"data":${data ?? 'null'}}\n`;
}
