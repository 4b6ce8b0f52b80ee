/**
 * Sends what handlers returned to whoever asked for it with `replyTo`: through the default exchange, at most
 * once per processing. A reply whose queue is gone, or that meets a lost connection, is dropped: the sender asks
 * again, and the duplicate is answered with the remembered result.
 */
import type { Channel } from 'amqplib';
import type { Log } from '../observability/log.ts';
import type { BrokerConnection } from './connection.ts';

export interface Replier {
  send(replyTo: string, correlationId: string | undefined, result: string): void;
  close(): void;
}

export function createReplier({ connection, log }: { readonly connection: BrokerConnection; readonly log: Log }): Replier {
  let channel: Channel | null = null;
  const stop = connection.listen({
    up: (model) => {
      model.createChannel().then(
        (opened) => {
          opened.on('error', () => {});
          opened.on('close', () => {
            if (channel === opened) channel = null;
          });
          channel = opened;
        },
        () => undefined,
      );
    },
    lost: () => {
      channel = null;
    },
  });
  return {
    send(replyTo, correlationId, result) {
      try {
        channel?.publish('', replyTo, Buffer.from(result), { correlationId, contentType: 'application/json' });
      } catch (error) {
        log.debug({ cause: (error as Error).message }, 'a reply could not be sent');
      }
    },
    // The channel goes with its connection, which sends what is still buffered first.
    close: () => stop(),
  };
}
