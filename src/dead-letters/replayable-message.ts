/**
 * A dead letter as it was before it died, fit to be published again, under the id of its entity wherever that is known: it
 * may have come with another routing key, or somebody may have moved it here. What the broker wrote on it goes: with the history
 * of its death a broker before 4.0 may take it for one that goes in circles, and drop it; copies to other queues
 * (`CC`, `BCC`) were made the first time.
 */
import type { ConsumeMessage } from 'amqplib';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import { messageFingerprint } from '../events/identity.ts';
import type { RejectionReason } from '../events/reasons.ts';
import type { PublishableMessage } from '../rabbitmq/outbox.ts';
import { withoutDeath } from './broker-death.ts';
import type { DeadLetter } from './dead-letter.ts';

const brokersOwn: ReadonlySet<string> = new Set(['CC', 'BCC', 'x-delivery-count', 'x-acquired-count']);
/** What AMQP has room for. */
const maxRoutingKeyBytes = 255;

export function replayable({ content, fields, properties }: ConsumeMessage, entityId: string | null): PublishableMessage {
  const { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp } = properties;
  return {
    routingKey: routingKeyOf(entityId, fields.routingKey),
    body: content,
    // Not among them: `userId`, which has to be the connection's own, and `expiration`, which would make a new gap.
    properties: { contentType, contentEncoding, messageId, correlationId, replyTo, type, timestamp, headers: headersOf(properties.headers ?? {}) },
  };
}

/** What a copy of a dead letter will be to the worker that gets it. */
export interface LetterCopy {
  /** Another than the letter's own where its routing key is put right. */
  readonly fingerprint: string;
  /** Null when it would be refused. */
  readonly payloadHash: string | null;
  /** Why it would be refused again, whatever its entity; null when it is an event. */
  readonly refused: RejectionReason | null;
}

/** `decoding` as the stream's workers decode. */
export function copyOf({ message, fingerprint, entityId }: DeadLetter, decoding: DecodeOptions): LetterCopy {
  const routingKey = routingKeyOf(entityId, message.routingKey);
  const copy = { ...message, routingKey, headers: headersOf(message.headers) };
  const own = routingKey === message.routingKey ? fingerprint : messageFingerprint(copy);
  const decoded = decodeMessage(copy, decoding);
  if (!decoded.ok) return { fingerprint: own, payloadHash: null, refused: decoded.refusal.reason };
  const { sequence, payloadHash } = decoded.event;
  // Where events need no entity, they need no sequence either (`UNSEQUENCED=process`).
  return { fingerprint: own, payloadHash, refused: sequence === null && !decoding.allowMissingEntityId ? 'invalid_sequence' : null };
}

function routingKeyOf(entityId: string | null, original: string): string {
  return entityId === null || Buffer.byteLength(entityId) > maxRoutingKeyBytes ? original : entityId;
}

function headersOf(headers: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(withoutDeath(headers)).filter(([name]) => !brokersOwn.has(name)));
}
