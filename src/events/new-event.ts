/**
 * An event to publish, and its JSON envelope. An invalid one is an `EventError` with the
 * reason that a worker would give.
 */
import { EventError } from '../errors.ts';

export interface NewEvent {
  /** Unique per event. Default: derived from the whole content by its readers. */
  readonly id?: string;
  /** Default: the worker's ENTITY_TYPE. */
  readonly entityType?: string;
  /** Absent, together with the sequence: the event is unsequenced and belongs to no entity. */
  readonly entityId?: string;
  /** 1, 2, 3… within its entity. */
  readonly sequence?: number;
  readonly type: string;
  /** When it happened: a date, or ISO 8601. */
  readonly timestamp?: string | Date;
  readonly data?: unknown;
  /** `data` as JSON text, instead of `data`: large integers and `1.0` are kept as written. */
  readonly dataJson?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** The JSON envelope, without checks. */
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

/** JSON.stringify would silently turn NaN and Infinity into null. */
function refuseNonFinite(_key: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`${value} is no JSON number`);
  return value;
}
