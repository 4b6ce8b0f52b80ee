/**
 * Converts the client library's message into the decoder's. A small body is copied: it is a slice of a socket read, and
 * holding it would keep that whole buffer in memory.
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
