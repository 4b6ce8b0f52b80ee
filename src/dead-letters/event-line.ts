/**
 * A dead letter as one line of NDJSON in the envelope, so that it can be corrected and published again. An envelope is
 * given as it is, well or ill; of a CloudEvent one is made, with the data as the producer wrote it.
 */
import { hasAttributes } from '../events/cloudevents.ts';
import type { Decoded, RawMessage } from '../events/event.ts';
import type { DeadLetter } from './dead-letter.ts';
import { compactJson } from './json-layout.ts';

/** Null when its body is not one JSON object. */
export function asEventLine({ message }: DeadLetter, decoded: Decoded): string | null {
  if (!decoded.ok || !isCloudEvent(message)) {
    const text = compactJson(Buffer.from(message.body).toString());
    return text?.startsWith('{') ? `${text}\n` : null;
  }
  const { id, idDerived, entityType, entityId, sequence, type, timestamp, dataJson, metadata } = decoded.event;
  const fields: (readonly [string, string])[] = [
    ...(idDerived ? [] : [['id', JSON.stringify(id)] as const]),
    ['entity_type', JSON.stringify(entityType)],
    ['entity_id', JSON.stringify(entityId)],
    ...(sequence === null ? [] : [['sequence', String(sequence)] as const]),
    ['type', JSON.stringify(type)],
    ...(timestamp === null ? [] : [['timestamp', JSON.stringify(timestamp)] as const]),
    ['data', compactJson(dataJson) ?? dataJson],
    ['metadata', JSON.stringify(metadata)],
  ];
  return `{${fields.map(([name, json]) => `"${name}":${json}`).join(',')}}\n`;
}

function isCloudEvent({ contentType, headers }: RawMessage): boolean {
  return /^application\/cloudevents/i.test(contentType ?? '') || hasAttributes(headers);
}
