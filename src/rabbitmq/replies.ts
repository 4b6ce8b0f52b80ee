/**
 * Sends the results of handlers to the `replyTo` of their messages: through the default exchange, at most
 * once per processing. A reply is dropped if its queue is gone or the connection is lost or blocked: the sender
 * repeats its message, and the duplicate is answered with the remembered result.
 *
 * Whoever publishes to the stream chooses `replyTo`, and the default exchange leads to every queue: with the worker's rights a
 * sender could write into queues that are closed to it. So only queues are answered that a client can have for itself alone, which
 * the broker names (`amq.gen-…`, and direct reply-to), and those that REPLY_QUEUES allows.
 */
import type { Channel, Message } from 'amqplib';
import type { Log } from '../observability/log.ts';
import type { DroppedReplyCause, Metrics } from '../observability/metrics.ts';
import type { BrokerConnection } from './connection.ts';
import { KeptChannel } from './kept-channel.ts';
import { brokerWords, replyCodeOf, replyCodes } from './refusal.ts';

export interface Replier {
  /** Never throws. */
  send(replyTo: string, correlationId: string | undefined, result: string): void;
  close(): Promise<void>;
}

export interface ReplierOptions {
  /**
   * Not a consuming connection: a broker with a memory alarm stops reading from a connection that publishes, and
   * acknowledgements would wait as well.
   */
  readonly connection: Pick<BrokerConnection, 'current' | 'ending' | 'blocked' | 'listen' | 'time'>;
  /** Queues beyond those that the broker names; null: none. */
  readonly allowed: RegExp | null;
  readonly metrics: Pick<Metrics, 'replyDropped'>;
  readonly log: Log;
}

/** The most replies that the channel buffers when the network is too slow; further ones are dropped. */
const maxBuffered = 1_024;

const directReplyTo = /^amq\.rabbitmq\.reply-to\./;
const serverNamed = /^amq\.gen-/;

const whatHelps: Record<DroppedReplyCause, string> = {
  not_allowed: 'it is not named by the broker, and REPLY_QUEUES does not allow it',
  no_queue: 'there is no such queue, or no longer',
  no_permission: 'the user of AMQP_URL may not write to the default exchange: allow `amq.default` in its write permission',
  no_connection: 'the connection to the broker is lost or blocked',
  backlog: 'replies leave more slowly than they are made',
};

export function createReplier({ connection, allowed, metrics, log }: ReplierOptions): Replier {
  let full = false;
  const reported = new Set<DroppedReplyCause>();
  const dropped = (cause: DroppedReplyCause, about: object) => {
    metrics.replyDropped(cause);
    if (reported.has(cause)) return;
    reported.add(cause);
    log.warn({ ...about, cause: whatHelps[cause] }, 'a reply was dropped; more with this cause are counted, not logged');
  };
  const kept = new KeptChannel<Channel>({
    connection,
    log,
    purpose: { purpose: 'replies' },
    open: (model) => model.createChannel({ highWaterMark: maxBuffered }),
    opened: ({ channel }) => {
      full = false;
      channel.on('drain', () => {
        full = false;
      });
      channel.on('return', ({ fields: { routingKey: queue } }: Message) => dropped('no_queue', { queue }));
    },
    lost: (_open, cause) => {
      if (replyCodeOf(cause) === replyCodes.accessRefused) dropped('no_permission', { broker: brokerWords(cause) });
    },
  });
  kept.start();
  return {
    send(replyTo, correlationId, result) {
      const isDirect = directReplyTo.test(replyTo);
      if (!isDirect && !serverNamed.test(replyTo) && allowed?.test(replyTo) !== true) return dropped('not_allowed', { queue: replyTo });
      const channel = kept.current?.channel;
      if (channel === undefined || connection.blocked !== null) return dropped('no_connection', { blocked: connection.blocked });
      if (full) return dropped('backlog', { buffered: maxBuffered });
      try {
        // The broker would return every direct reply: to it that is no queue.
        const options = { correlationId, contentType: 'application/json', mandatory: !isDirect };
        full = !channel.publish('', replyTo, Buffer.from(result), options);
      } catch (error) {
        dropped('no_connection', { error });
      }
    },
    close: () => kept.stop(),
  };
}
