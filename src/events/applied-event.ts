/** An event as an entity's log keeps it: a line of JSON with what is known of it, and its data as the producer wrote them. */
import type { Event } from './event.ts';

export interface AppliedEvent extends Pick<Event, 'id' | 'type' | 'timestamp' | 'metadata' | 'dataJson'> {
  /** Under which it was applied; of an unsequenced event the version that it made. */
  readonly sequence: number;
}

export function appliedText({ id, type, timestamp, metadata, dataJson }: Event, sequence: number): string {
  return `${JSON.stringify({ sequence, id, type, timestamp, metadata })}\n${dataJson}`;
}

export function readAppliedText(text: string): AppliedEvent {
  const end = text.indexOf('\n');
  return { ...(JSON.parse(text.slice(0, end)) as Omit<AppliedEvent, 'dataJson'>), dataJson: text.slice(end + 1) };
}
