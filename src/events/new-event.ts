/**
 * An event that somebody wants to publish, and its JSON envelope. A mistake in one is an `EventError` under the
 * reason that a worker would dead-letter it for.
 */
import { EventError } from '../errors.ts';

export interface NewEvent {
  /** Unique per event. Default: derived by whoever reads it, from the whole content. */
  readonly id?: string;
  /** Default: what ENTITY_TYPE says at the worker. */
  readonly entityType?: string;
  /** Absent, together with the sequence: the event is unsequenced and belongs to no entity. */
  readonly entityId?: string;
  /** 1, 2, 3… within its entity. */
  readonly sequence?: number;
  readonly type: string;
  /** When it happened: a date, or ISO 8601. */
  readonly timestamp?: string | Date;
  readonly data?: unknown;
  /** `data` as JSON text, in place of `data`: large integers and `1.0` stay as they are. */
  readonly dataJson?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** The JSON envelope. Says nothing of whether a worker would take it. */
export function envelopeText(event: NewEvent): string {
  const head = jsonText('the event', {
    id: event.id,
    entity_type: event.entityType,
    entity_id: event.entityId,
    sequence: event.sequence,
    type: event.type,
    timestamp: timestampText(event.timestamp),
  });
  const data = dataText(event);
  const metadata = jsonText('metadata', event.metadata);
  const rest = `${data === undefined ? '' : `,"data":${data}`}${metadata === undefined ? '' : `,"metadata":${metadata}`}`;
  return head === undefined || head === '{}' ? `{${rest.slice(1)}}` : `${head.slice(0, -1)}${rest}}`;
}

/** Undefined when the event has no data. */
export function dataText({ data, dataJson }: NewEvent): string | undefined {
  if (dataJson === undefined) return jsonText('data', data);
  if (data !== undefined) throw new EventError('malformed', 'an event has data or dataJson, not both');
  try {
    JSON.parse(dataJson);
  } catch {
    throw new EventError('malformed', 'dataJson is not JSON');
  }
  return dataJson;
}

export function timestampText(timestamp: string | Date | undefined): string | undefined {
  if (!(timestamp instanceof Date)) return timestamp;
  if (Number.isNaN(timestamp.getTime())) throw new EventError('malformed', 'timestamp is an invalid date');
  return timestamp.toISOString();
}

function jsonText(what: string, value: unknown): string | undefined {
  try {
    return JSON.stringify(value, refuseNonFinite);
  } catch (error) {
    throw new EventError('malformed', `${what} cannot be written as JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** JSON.stringify would turn NaN and Infinity into null without a word. */
function refuseNonFinite(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`${value} is no JSON number`);
  return value;
}
