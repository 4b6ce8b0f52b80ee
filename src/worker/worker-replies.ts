/** What handlers return goes to whoever asked for it on a connection of its own: a broker short of memory reads no acknowledgements from one that publishes. */
import type { Config } from '../config/config.ts';
import type { Log } from '../observability/log.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { createReplier } from '../rabbitmq/replies.ts';

export interface Replies {
  readonly connection: ReturnType<typeof createConnection>;
  readonly replier: ReturnType<typeof createReplier>;
}

export function openReplies(config: Config, log: Log): Replies {
  const connection = createConnection({ urls: config.broker.urls, name: `${config.serviceName} replies`, log });
  return { connection, replier: createReplier({ connection, log }) };
}
