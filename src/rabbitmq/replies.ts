/**
 * Sends what handlers returned to whoever asked for it with `replyTo`: through the default exchange, at most
 * once per processing. A reply whose queue is gone, or that meets a lost or blocked connection, is dropped: the sender
 * asks again, and the duplicate is answered with the remembered result.
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
   * Not one that consumes: a broker with a memory alarm stops reading from a connection as soon as something is
   * published on it, and acknowledgements would wait with it.
   */
  readonly connection: Pick<BrokerConnection, 'current' | 'ending' | 'blocked' | 'listen' | 'time'>;
  readonly log: Log;
}

/** Replies that the channel holds because the network is slower than they are; what comes on top is dropped. */
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
