/**
 * The headers with the attributes of a binary CloudEvent. The AMQP binding uses the prefix `cloudEvents:`, or `cloudEvents_` for
 * brokers that cannot filter on a colon. Bridges and sidecars may pass on the prefixes of other bindings (HTTP `ce-`, Kafka
 * `ce_`) or another case: these are read if there is none of AMQP, and only one prefix at a time.
 */

const own = ['cloudEvents:', 'cloudEvents_'] as const;
const foreign = ['cloudevents:', 'cloudevents_', 'ce-', 'ce_'] as const;

type Headers = Readonly<Record<string, unknown>>;

/** The attribute names that CloudEvents allows; excludes `__proto__`. */
export const attributeName = /^[a-z0-9]+$/;

export interface AttributeHeader {
  readonly header: string;
  /** The name of the attribute. */
  readonly name: string;
  readonly value: unknown;
  /** From another binding, whose values may be encoded differently. */
  readonly isForeign: boolean;
}

/** Whether the headers mark a CloudEvent in binary mode. Called for every message. */
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

/** For a refused message: a header that would make it a CloudEvent if its prefix were supported. */
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
    // Go writes `Ce-Specversion`; the AMQP binding has lower-case names.
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
