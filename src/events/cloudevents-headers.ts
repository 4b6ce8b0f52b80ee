/**
 * The headers in which a binary CloudEvent carries its attributes. The AMQP binding says `cloudEvents:`, or `cloudEvents_` for
 * brokers that cannot filter on a colon. Bridges and sidecars pass on what other bindings say (HTTP `ce-`, Kafka `ce_`) or
 * change the case: those are read where there are none of AMQP, all of one prefix.
 */

const own = ['cloudEvents:', 'cloudEvents_'] as const;
const foreign = ['cloudevents:', 'cloudevents_', 'ce-', 'ce_'] as const;

type Headers = Readonly<Record<string, unknown>>;

/** What CloudEvents allows as the name of an attribute; `__proto__` is none. */
export const attributeName = /^[a-z0-9]+$/;

export interface AttributeHeader {
  readonly header: string;
  /** Of the attribute. */
  readonly name: string;
  readonly value: unknown;
  /** It follows another binding, whose encoding of values need not be AMQP's. */
  readonly isForeign: boolean;
}

/** Whether the headers say that this is a CloudEvent in binary mode. On the way of every message. */
export function hasAttributes(headers: Headers): boolean {
  for (const header in headers) {
    if (
      /specversion$/i.test(header) &&
      foreign.some((prefix) => header.length === prefix.length + 'specversion'.length && startsAs(header, prefix))
    )
      return true;
  }
  return false;
}

/** For a message that is refused: the header that would make it a CloudEvent, had it a prefix that is read. */
export function unreadVersionHeader(headers: Headers): string | null {
  return hasAttributes(headers)
    ? null
    : (Object.keys(headers).find((header) => /^(?:cloud-?events?|ce)[^a-z0-9]specversion$/i.test(header)) ?? null);
}

export function isCloudEventsHeader(header: string): boolean {
  return foreign.some((prefix) => startsAs(header, prefix));
}

export function attributeHeaders(headers: Headers): readonly AttributeHeader[] {
  const found = Object.entries(headers).flatMap(([header, value]): AttributeHeader[] => {
    const ownPrefix = own.find((prefix) => header.startsWith(prefix));
    const prefix = ownPrefix ?? foreign.find((candidate) => startsAs(header, candidate));
    if (prefix === undefined) return [];
    // Go writes `Ce-Specversion`; whoever follows AMQP writes names in lower case.
    const rest = header.slice(prefix.length);
    const name = ownPrefix === undefined ? rest.toLowerCase() : rest;
    return attributeName.test(name) ? [{ header, name, value, isForeign: ownPrefix === undefined }] : [];
  });
  const versions = found.filter(({ name }) => name === 'specversion');
  if (versions.some(({ isForeign }) => !isForeign)) return found.filter(({ isForeign }) => !isForeign);
  const [first] = versions;
  const prefix = first?.header.slice(0, -'specversion'.length).toLowerCase() ?? '';
  return found.filter(({ header }) => startsAs(header, prefix));
}

/** `prefix` is in lower case. */
function startsAs(header: string, prefix: string): boolean {
  return header.slice(0, prefix.length).toLowerCase() === prefix;
}
