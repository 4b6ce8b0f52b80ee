/**
 * A dead letter as it was before it died, fit to be published again. What the broker wrote on it goes: with the history
 * of its death a broker before 4.0 may take it for one that goes in circles, and drop it; copies to other queues
 * (`CC`, `BCC`) were made the first time.
 */
import type { ConsumeMessage } from 'amqplib';
import type { PublishableMessage } from '../rabbitmq/outbox.ts';
import { withoutDeath } from './broker-death.ts';

const brokersOwn: ReadonlySet<string> = new Set(['CC', 'BCC', 'x-delivery-count', 'x-acquired-count']);

export function replayable({ content, fields, properties }: ConsumeMessage): PublishableMessage {
  const { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp } = properties;
  const headers = Object.entries(withoutDeath(properties.headers ?? {})).filter(([name]) => !brokersOwn.has(name));
  return {
    routingKey: fields.routingKey,
    body: content,
    // Not among them: `userId`, which has to be the connection's own, and `expiration`, which would make a new gap.
    properties: { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp, headers: Object.fromEntries(headers) },
  };
}
