/** The headers in which a binary CloudEvent carries its attributes. */

/** Both are in use: the binding says `cloudEvents:`, and the other for brokers that cannot filter on a colon. */
export const cloudEventsPrefixes = ['cloudEvents:', 'cloudEvents_'] as const;

export function isCloudEventsHeader(name: string): boolean {
  return cloudEventsPrefixes.some((prefix) => name.startsWith(prefix));
}
