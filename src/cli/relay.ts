/** `inorder relay`: publishes the events of the event store, in order, until it is stopped. */
import { connectionName } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { openEventStore, openRelayLeases } from '../stores/open-store.ts';
import { runRelay } from '../event-sourcing/relay.ts';
import { createConnection } from '../rabbitmq/connection.ts';
import { createAmqpPublisher } from '../rabbitmq/publisher.ts';
import { processLog } from './access.ts';
import { brokerVariables, defineCommand, eventStoreVariables, eventLimitVariables } from './command.ts';

/** How long a stop waits for a broker that blocks publishes. */
const endTimeoutMs = 5_000;

export const command = defineCommand({
  name: 'relay',
  summary: 'Publishes the events of the event store in order, and new ones as they are appended.',
  description: [
    'One relay of a stream is active; a second one is a standby and takes over where the first one ended. Events that were in',
    'flight then are published again, and are duplicates for the workers. Runs until SIGTERM or SIGINT.',
  ].join('\n'),
  positionals: [],
  options: {},
  variables: [...brokerVariables, ...eventStoreVariables, ...eventLimitVariables, 'SERVICE_NAME', 'LOG_LEVEL'],
  async run(_args, io) {
    const config = loadConfig(io.env);
    const { broker, limits } = config;
    const log = processLog(config, io);
    const signal = io.takeSignals();
    const opened = { role: 'relay', log, time: io.time };
    const store = openEventStore(config, opened);
    const leases = openRelayLeases(config, opened);
    const connection = createConnection({ ...broker, name: connectionName(opened.role, config), log, time: io.time });
    const publisher = createAmqpPublisher({ connection, exchange: broker.stream, log });
    // Unconfirmed events are abandoned, so that this ends: the next relay publishes them again.
    signal.addEventListener('abort', () => void publisher.close(endTimeoutMs), { once: true });
    const onProgress = ({ published, position }: { published: number; position: number }) =>
      log.debug({ published, position }, 'published');
    try {
      await runRelay({ store, leases, publisher, limits, log, signal, time: io.time, onProgress });
    } finally {
      await publisher.close(endTimeoutMs);
      await Promise.allSettled([connection.close(), store.close(), leases.close()]);
    }
    log.info({}, 'stopped');
    return 0;
  },
});
