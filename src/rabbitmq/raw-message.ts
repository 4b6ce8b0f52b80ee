/**
 * From what the client library gives to what the decoder reads. The body is not copied.
 */
import type { GetMessage, ConsumeMessage } from 'amqplib';
import type { RawMessage } from '../events/event.ts';
import { unreadable } from './deep-headers.ts';

export function toRawMessage({ content, fields, properties }: ConsumeMessage | GetMessage): RawMessage {
  return {
    body: content,
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
