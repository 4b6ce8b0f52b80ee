/**
 * The publisher for users' programs, with its own connection and one confirm channel. Guarantees that events
 * reach the broker in the order of the calls of `publish`, also when the connection is lost in between; that
 * an event that a worker would refuse is refused here; and that every event has one outcome.
 *
 * Left to the caller: numbering the events of an entity 1, 2, 3…; handling returned events.
 */
import { connectionName } from '../config/config.ts';
import { amqpUrls } from '../config/parsers.ts';
import { variables } from '../config/variables.ts';
import { ConfigError } from '../errors.ts';
import { encodeCloudEvent, encodeEvent, type EncodedEvent, type NewEvent } from '../events/encode.ts';
import { defaultEventLimits, type Event, type EventLimits } from '../events/event.ts';
import type { Log } from '../observability/log.ts';
import { type BrokerAddress, createConnection } from '../rabbitmq/connection.ts';
import { createAmqpPublisher, type PublishOutcome } from '../rabbitmq/publisher.ts';
import { systemTime, type Time } from '../time.ts';
import { tlsProblems } from '../tls.ts';
import { type PublishCounts, publishStream } from './publish-input.ts';

const eventFormats = ['envelope', 'cloudevents-structured', 'cloudevents-binary'] as const;
/** The format of messages: the JSON envelope, or a CloudEvent as one JSON text or with its attributes in headers. */
export type EventFormat = (typeof eventFormats)[number];

export interface PublisherOptions extends Omit<BrokerAddress, 'urls'> {
  /** Nodes of one cluster, tried in turn. Default `amqp://localhost:5672`. */
  readonly urls?: readonly string[];
  /** Name of the stream. Default `events`. */
  readonly stream?: string;
  /** Default `envelope`: the JSON envelope. */
  readonly format?: EventFormat;
  /** CloudEvents: the `source` of events whose metadata names none. Default `/inorder`. */
  readonly source?: string;
  /** The limits of the workers. Default: their defaults. */
  readonly limits?: Partial<EventLimits>;
  /**
   * UNSEQUENCED of the workers: with `process` events without a sequence or an entity are published as well. Default
   * `reject`: they are refused here with `EventError`, as a worker would do.
   */
  readonly unsequenced?: 'reject' | 'process';
  /** The most events without an outcome, beyond which `publishAll` stops reading. Default 1,000. */
  readonly maxOutstanding?: number;
  /** Logs lost connections. Default: none. */
  readonly log?: Log;
  /** Default: the system's clock. */
  readonly time?: Time;
}

export interface Publisher {
  /**
   * Sends one event and resolves with its outcome; waits as long as the broker is unavailable. An event without an
   * entity id, if `unsequenced` allows it, is assigned to a shard by its own id.
   * Rejects with `EventError` when a worker would refuse it: nothing is sent then.
   */
  publish(event: NewEvent | Event): Promise<PublishOutcome>;
  /**
   * Sends a stream of events and resolves when each has its outcome; reads no faster than the broker confirms.
   * Rejects with an error of the stream or of `onProgress`, or with `EventError` at the first event that a worker would
   * refuse, once the events sent before have their outcomes.
   */
  publishAll(events: AsyncIterable<NewEvent | Event>, options?: PublishAllOptions): Promise<PublishCounts>;
  /**
   * Accepts nothing more, waits at most `timeoutMs` (default 30 s) for outstanding events, fails the rest and
   * closes the connection.
   */
  close(timeoutMs?: number): Promise<void>;
}

export interface PublishAllOptions {
  /** Called after each outcome. */
  readonly onProgress?: (counts: PublishCounts) => void;
}

const silence: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/**
 * Connects in the background; whether the broker is available shows at the first publish.
 * @throws ConfigError naming every invalid option.
 */
export function createPublisher(options: PublisherOptions = {}): Publisher {
  const problems = problemsOf(options);
  if (problems.length > 0) throw new ConfigError(problems);
  const { urls = ['amqp://localhost:5672'], stream = 'events', maxOutstanding, log = silence, time = systemTime } = options;
  const encode = encoderFor(options);
  const connection = createConnection({ ...options, urls, name: connectionName('publisher'), log, time });
  const publisher = createAmqpPublisher({ connection, exchange: stream, log, maxOutstanding });

  async function* encoded(events: AsyncIterable<NewEvent | Event>): AsyncGenerator<EncodedEvent> {
    for await (const event of events) yield encode(event);
  }

  return {
    // The order of calls is the order of events: nothing may be awaited before the event is passed on.
    publish: async (event) => publisher.publish(encode(event)),
    publishAll: (events, { onProgress } = {}) => publishStream(encoded(events), publisher, onProgress),
    async close(timeoutMs) {
      await publisher.close(timeoutMs);
      await connection.close();
    },
  };
}

/** The addresses are not shown, because they contain credentials. */
function problemsOf({ urls, auth, tls = {}, stream, format, maxOutstanding, unsequenced }: PublisherOptions): string[] {
  const { kind } = variables.STREAM;
  const problems: string[] = [];
  if (urls !== undefined && (urls.length === 0 || urls.some((url) => amqpUrls.parse(url)?.length !== 1)))
    problems.push('urls: each must be an `amqp://` or `amqps://` URL, and there must be one');
  const flaw = amqpUrls.flaw?.(urls?.join() ?? '') ?? null;
  if (flaw !== null) problems.push(`urls: ${flaw}`);
  const named = Object.values(tls).some((file) => file != null);
  if ((named || auth === 'external') && urls?.every((url) => url.startsWith('amqps:')) !== true)
    problems.push('tls and auth `external` are for urls that all begin with amqps://');
  if (auth === 'external' && tls.certFile == null) problems.push('auth is `external`: it needs tls.certFile and tls.keyFile');
  problems.push(...tlsProblems(tls));
  if (stream !== undefined && kind.parse(stream) === null) problems.push(`stream is ${JSON.stringify(stream)}: it must be ${kind.allowed}`);
  if (format !== undefined && !eventFormats.includes(format))
    problems.push(`format is ${JSON.stringify(format)}: it must be one of ${eventFormats.join(', ')}`);
  if (unsequenced !== undefined && variables.UNSEQUENCED.kind.parse(unsequenced) === null)
    problems.push(`unsequenced is ${JSON.stringify(unsequenced)}: it must be ${variables.UNSEQUENCED.kind.allowed}`);
  if (maxOutstanding !== undefined && !(Number.isSafeInteger(maxOutstanding) && maxOutstanding >= 1))
    problems.push(`maxOutstanding is ${String(maxOutstanding)}: it must be a whole number from 1 up`);
  return problems;
}

function encoderFor({
  format = 'envelope',
  source,
  limits: given,
  unsequenced,
}: PublisherOptions): (event: NewEvent | Event) => EncodedEvent {
  const limits = { ...defaultEventLimits, ...given };
  if (format === 'envelope') return (event) => encodeEvent(newEventOf(event), { limits, unsequenced });
  const mode = format === 'cloudevents-structured' ? 'structured' : 'binary';
  return (event) => encodeCloudEvent(newEventOf(event), mode, { limits, source, unsequenced });
}

/** An event as a handler sees it can be published again, with its data as written. */
function newEventOf(event: NewEvent | Event): NewEvent {
  if (!('payloadHash' in event)) return event;
  const { id, entityType, entityId, sequence, type, timestamp, dataJson, metadata } = event;
  return {
    id,
    entityType,
    entityId,
    sequence: sequence ?? undefined,
    type,
    timestamp: timestamp ?? undefined,
    dataJson,
    metadata,
  };
}
