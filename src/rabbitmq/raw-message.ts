/**
 * From what the client library gives to what the decoder reads. A small body is copied: it is cut from what one read of the
 * socket brought, and one that is held for long would keep all of that in memory.
 */
import type { GetMessage, ConsumeMessage } from 'amqplib';
import type { RawMessage } from '../events/event.ts';
import { unreadable } from './deep-headers.ts';

export function toRawMessage({ content, fields, properties }: ConsumeMessage | GetMessage): RawMessage {
  return {
    body: content.byteLength * 2 < content.buffer.byteLength ? Buffer.from(content) : content,
    routingKey: fields.routingKey,
    contentType: properties.contentType,
    contentEncoding: properties.contentEncoding,
    messageId: properties.messageId,
    type: properties.type,
    timestamp: properties.timestamp,
    replyTo: properties.replyTo,
    correlationId: properties.correlationId,
    headers: properties.headers ?? {},
    ...(unreadable in properties ? { unreadable: true } : {}),
  };
}
