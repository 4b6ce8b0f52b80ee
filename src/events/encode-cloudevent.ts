/**
 * Encodes an event as a CloudEvent 1.0: structured (one JSON document) or binary (attributes in headers). Like
 * `encode.ts` it refuses what a worker would refuse. Metadata becomes extension attributes, so it must be
 * valid as such; an event that does not fit is refused, not trimmed.
 */
import { EventError } from '../errors.ts';
import { attributeName } from './cloudevents-headers.ts';
import { placedAttributes } from './cloudevents.ts';
import { type Draft, encodedAs, type EncodedEvent, encodeEvent, type EncodeOptions } from './encode.ts';
import { dataText, type NewEvent, timestampText } from './new-event.ts';

export type CloudEventMode = 'structured' | 'binary';

export interface CloudEventOptions extends EncodeOptions {
  /** `source` of events whose metadata names none: a URI reference. Default `/inorder`. */
  readonly source?: string;
}

type Attributes = Readonly<Record<string, string | number | boolean>>;

/** Throws `EventError` with the reason that a worker would give. An event without an id gets the one derived from its envelope. */
export function encodeCloudEvent(event: NewEvent, mode: CloudEventMode, options: CloudEventOptions = {}): EncodedEvent {
  const { source = '/inorder' } = options;
  const attributes = attributesOf({ ...event, id: event.id ?? encodeEvent(event, options).event.id }, source);
  const draft = mode === 'structured' ? structured(attributes, dataText(event)) : binary(attributes, dataText(event));
  return encodedAs({ ...draft, entityId: event.entityId }, options);
}

function structured(attributes: Attributes, data: string | undefined): Omit<Draft, 'entityId'> {
  const head = JSON.stringify(attributes).slice(0, -1);
  const text = data === undefined ? `${head}}` : `${head},"datacontenttype":"application/json","data":${data}}`;
  return { body: Buffer.from(text), contentType: 'application/cloudevents+json', headers: {} };
}

function binary(attributes: Attributes, data: string | undefined): Omit<Draft, 'entityId'> {
  const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`cloudEvents:${name}`, value]));
  return { body: Buffer.from(data ?? ''), contentType: 'application/json', headers };
}

function attributesOf(event: NewEvent & { readonly id: string }, source: string): Attributes {
  const timestamp = timestampText(event.timestamp);
  return {
    specversion: '1.0',
    id: event.id,
    source,
    type: event.type,
    ...(event.entityId === undefined ? {} : { subject: event.entityId }),
    ...(timestamp === undefined ? {} : { time: timestamp }),
    // The sequence extension is text, because integers of CloudEvents have only 32 bits.
    ...(event.sequence === undefined ? {} : { sequence: String(event.sequence) }),
    ...(event.entityType === undefined ? {} : { entitytype: event.entityType }),
    ...extensionsOf(event.metadata ?? {}),
  };
}

function extensionsOf(metadata: Readonly<Record<string, unknown>>): Attributes {
  const extensions: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(metadata)) {
    if (value === undefined || value === null) continue;
    if (!attributeName.test(name) || placedAttributes.has(name)) {
      throw new EventError(
        'malformed',
        `metadata ${JSON.stringify(name)} cannot be a CloudEvents attribute: use other lower-case letters and digits`,
      );
    }
    if (!isAttributeValue(value)) {
      throw new EventError('malformed', `metadata ${name} cannot be a CloudEvents attribute: it is no text, boolean or integer of 32 bits`);
    }
    extensions[name] = value;
  }
  return extensions;
}

function isAttributeValue(value: unknown): value is string | number | boolean {
  return typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && (value | 0) === value);
}
