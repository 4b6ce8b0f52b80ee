/** What commands on dead letters need: the broker, the store, and how the stream's workers decode. */
import type { ChannelModel } from 'amqplib';
import type { Config } from '../config/config.ts';
import type { DecodeOptions } from '../events/decode.ts';
import type { VariableName } from '../config/variables.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/limits.ts';
import type { Store } from '../stores/store.ts';
import { withBroker } from './broker-access.ts';
import type { CommandIo } from './command.ts';
import { withStore } from './store-access.ts';

export const letterVariables = ['AMQP_URL', 'STATE_STORE', 'REDIS_URL', 'DATABASE_URL', 'STREAM', 'FIRST_SEQUENCE', 'ENTITY_TYPE'] as const satisfies readonly VariableName[];

export interface LetterAccess {
  readonly connection: ChannelModel;
  readonly stream: string;
  readonly store: Store;
  readonly decoding: DecodeOptions;
  readonly firstSequence: FirstSequence;
  readonly strategy: ViolationStrategy;
}

export function withLetters<T>(config: Config, io: CommandIo, use: (access: LetterAccess) => Promise<T>): Promise<T> {
  const { broker, limits, processing, ordering } = config;
  const decoding = {
    limits,
    defaultEntityType: processing.entityType,
    allowMissingEntityId: ordering.unsequenced === 'process',
  };
  return withBroker(config, io, (connection) =>
    withStore(config, io, (store) => use({ connection, stream: broker.stream, store, decoding, firstSequence: ordering.firstSequence, strategy: ordering.strategy })),
  );
}
