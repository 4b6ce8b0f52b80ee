/**
 * Sends the results of handlers to the `replyTo` of their messages: through the default exchange, at most
 * once per processing. A reply is dropped if its queue is gone or the connection is lost or blocked: the sender
 * repeats its message, and the duplicate is answered with the remembered result.
 */
import type { Channel } from 'amqplib';
import type { Log } from '../observability/log.ts';
import type { BrokerConnection } from './connection.ts';
import { KeptChannel } from './kept-channel.ts';

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
  readonly log: Log;
}

/** The most replies that the channel buffers when the network is too slow; further ones are dropped. */
const maxBuffered = 1_024;

export function createReplier({ connection, log }: ReplierOptions): Replier {
  let full = false;
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
    },
    lost: () => {},
  });
  kept.start();
  return {
    send(replyTo, correlationId, result) {
      const channel = kept.current?.channel;
      if (channel === undefined || full || connection.blocked !== null) {
        log.debug({ full, blocked: connection.blocked }, 'a reply was dropped');
        return;
      }
      try {
        full = !channel.publish('', replyTo, Buffer.from(result), { correlationId, contentType: 'application/json' });
      } catch (error) {
        log.debug({ cause: (error as Error).message }, 'a reply could not be sent');
      }
    },
    close: () => kept.stop(),
  };
}
