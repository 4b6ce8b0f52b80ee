/**
 * The configuration as everything behind the loader sees it: read once at the start, checked as a whole,
 * frozen, and complete. Nothing in it is optional and nothing is text that still has to be parsed; where a
 * thing can be absent it is null. `load.ts` makes it from the environment, `variables.ts` says what each
 * variable means; a library user may write one by hand.
 */
import type { DecodeOptions } from '../events/decode.ts';
import type { EventLimits } from '../events/event.ts';
import type { FirstSequence, GapTimeoutAction, ViolationStrategy } from '../ordering/limits.ts';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** The broker, and what of the stream's topology this process works on. */
export interface BrokerConfig {
  /** Nodes of one cluster, tried in turn; each with its credentials. Never printed as they are. */
  readonly urls: readonly [string, ...string[]];
  /** The management API with its credentials, or null: then nothing that needs it is checked. */
  readonly managementUrl: string | null;
  /** Name of the exchange, and the first part of every queue's name. */
  readonly stream: string;
  readonly exchangeType: 'x-consistent-hash' | 'x-modulus-hash';
  readonly queueType: 'quorum' | 'classic';
  /** Number of shard queues of the stream: 1 to 1,000. */
  readonly shards: number;
  /** The shards that this process consumes, ascending and without repeats. */
  readonly workerShards: readonly number[];
  /** Which of them it begins with, where several workers share them; null: all at once. */
  readonly share: { readonly ordinal: number; readonly replicas: number } | null;
  /** Unacknowledged deliveries of one shard. */
  readonly prefetch: number;
  /** At the start: make what is missing, or only compare. */
  readonly topology: 'declare' | 'verify';
}

/** What has to have a commit, beside the memory of the server, before a message is acknowledged by it. */
export type Durability = { readonly kind: 'none' | 'aof' } | { readonly kind: 'replicas'; readonly count: number };

export interface StoreConfig {
  /** Where versions and states live. */
  readonly kind: 'redis' | 'postgres';
  /** With credentials. Never printed as it is. */
  readonly redisUrl: string;
  /** With credentials. Never printed as it is; empty where PostgreSQL is not used. */
  readonly databaseUrl: string;
  /** How long ids, payload hashes and results are remembered, in seconds. */
  readonly idempotencyTtlSeconds: number;
  /** Whether every event that is applied is kept, with its entity and in the same commit. */
  readonly eventLog: boolean;
  /** Of Redis. */
  readonly durability: Durability;
}

/** The append-only log of events, for those who use it. */
export interface EventStoreConfig {
  readonly kind: 'redis' | 'postgres';
}

/** Field for field what the sequencer is told (`SequencerLimits`), as far as an operator may choose it. */
export interface OrderingConfig {
  readonly strategy: ViolationStrategy;
  readonly gapTimeoutMs: number;
  readonly gapTimeoutAction: GapTimeoutAction;
  /** Held deliveries of one entity; never more than the prefetch. */
  readonly maxHeldPerEntity: number;
  /** Held deliveries of one shard: 80 % of the prefetch, so that the missing event can still be delivered. */
  readonly maxHeld: number;
  readonly firstSequence: FirstSequence;
  readonly unsequenced: 'reject' | 'process';
}

export interface ProcessingConfig {
  /** `order`, `history`, or the path of a module. */
  readonly processor: string;
  /** The type of an entity whose event names none. */
  readonly entityType: string;
  /** Attempts at one event, the first one included. */
  readonly retryMaxAttempts: number;
  /** Pause after the first failed attempt, in milliseconds; it doubles from there, with jitter. */
  readonly retryInitialMs: number;
  readonly retryMaxMs: number;
  /** One attempt of a handler may take this long, in milliseconds. */
  readonly handlerTimeoutMs: number;
  /** Dead letters that waited for a missing event are replayed automatically when it has arrived. */
  readonly autoReplay: boolean;
}

export interface GapRepairConfig {
  /** `event-store`, or the path of a module; null: missing events are waited for. */
  readonly source: string | null;
  /** How long a gap is waited for before the source is asked, in milliseconds. */
  readonly afterMs: number;
}

/** Every limit on one message, and on what it may grow into. */
export interface LimitsConfig extends EventLimits {
  /** Largest serialised state of one entity, and largest result of a handler, in bytes. */
  readonly maxStateBytes: number;
  /** What a worker keeps in memory of deliveries, states and versions, all shards together, in bytes. */
  readonly memoryBudgetBytes: number;
}

export interface HttpConfig {
  readonly host: string;
  /** 0 asks the system for any free port. */
  readonly port: number;
  /** Opens what the console protects; null: that stays closed. Never printed. */
  readonly adminToken: string | null;
}

export interface Config {
  /** The `service` label of every metric. */
  readonly serviceName: string;
  readonly logLevel: LogLevel;
  readonly broker: BrokerConfig;
  readonly store: StoreConfig;
  readonly eventStore: EventStoreConfig;
  readonly ordering: OrderingConfig;
  readonly processing: ProcessingConfig;
  readonly gapRepair: GapRepairConfig;
  readonly limits: LimitsConfig;
  readonly http: HttpConfig;
  /** From the request to stop until the process gives up waiting for what is in flight, in milliseconds. */
  readonly shutdownTimeoutMs: number;
  /** Sentences for the log: variables that are set and have no effect in this version. */
  readonly warnings: readonly string[];
}

/** How the stream's workers read a message; whoever reads one after them, reads it so. */
export function decodingOf({ limits, processing, ordering }: Config): DecodeOptions {
  return { limits, defaultEntityType: processing.entityType, allowMissingEntityId: ordering.unsequenced === 'process' };
}
