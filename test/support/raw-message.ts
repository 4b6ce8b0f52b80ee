/** A message as the broker delivers it, with nothing but what a test says of it. */
import type { RawMessage } from '../../src/events/event.ts';

export function rawMessage(fields: Pick<RawMessage, 'body' | 'routingKey'> & Partial<RawMessage>): RawMessage {
  return {
    contentType: undefined,
    contentEncoding: undefined,
    messageId: undefined,
    type: undefined,
    timestamp: undefined,
    replyTo: undefined,
    correlationId: undefined,
    headers: {},
    ...fields,
  };
}
