/**
 * The configuration after loading: read once at the start, checked as a whole, frozen, and complete. No field is
 * optional or unparsed text; an absent value is null. `load.ts` makes it from the environment, `variables.ts`
 * explains each variable; a library user may write one by hand. The names under which a process is known, and its version, are here too.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { DecodeOptions } from '../events/decode.ts';
import type { EventLimits } from '../events/event.ts';
import type { FirstSequence, GapTimeoutAction, ViolationStrategy } from '../ordering/facts.ts';
import type { TlsFiles } from '../tls.ts';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** The broker, and the part of the stream's topology that this process uses. */
export interface BrokerConfig {
  /** Nodes of one cluster, tried in turn; with credentials, never printed unredacted. */
  readonly urls: readonly [string, ...string[]];
  /** How the broker knows us: by user and password of the URL, or by our certificate. */
  readonly auth: 'plain' | 'external';
  /** For AMQP and for the management API. */
  readonly tls: TlsFiles;
  /** The management API with credentials; null: a worker does without, and checks ask the usual port of the first host. */
  readonly managementUrl: string | null;
  /** Name of the exchange, and prefix of every queue's name. */
  readonly stream: string;
  readonly exchangeType: 'x-consistent-hash' | 'x-modulus-hash';
  readonly queueType: 'quorum' | 'classic';
  /** Number of shard queues of the stream: 1 to 1,000. */
  readonly shards: number;
  /** The shards that this process consumes, ascending and without repeats. */
  readonly workerShards: readonly number[];
  /** The share of the shards that it consumes first, if several workers share them; null: all at once. */
  readonly share: { readonly ordinal: number; readonly replicas: number } | null;
  /** The most unacknowledged deliveries of one shard. */
  readonly prefetch: number;
  /** At the start: declare what is missing, or only verify. */
  readonly topology: 'declare' | 'verify';
}

/** What must have a commit, beside the server's memory, before its message is acknowledged. */
export type Durability = { readonly kind: 'none' | 'aof' } | { readonly kind: 'replicas'; readonly count: number };

export interface StoreConfig {
  /** Where versions and states live. */
  readonly kind: 'redis' | 'postgres';
  /** With credentials; never printed unredacted. */
  readonly redisUrl: string;
  readonly redisTls: TlsFiles;
  /** With credentials; never printed unredacted. Empty if PostgreSQL is not used. */
  readonly databaseUrl: string;
  /** How long ids, payload hashes and results are remembered, in seconds. */
  readonly idempotencyTtlSeconds: number;
  /** Whether every applied event is kept with its entity, in the same commit. */
  readonly eventLog: boolean;
  /** For Redis. */
  readonly durability: Durability;
}

/** The append-only log of events, if it is used. */
export interface EventStoreConfig {
  readonly kind: 'redis' | 'postgres';
}

/** The share of a shard's prefetch, and of its memory for deliveries, that held events may take: the rest is for the missing one. */
export const heldShare = 0.8;

/** The fields of `SequencerLimits` that an operator can choose. */
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
  /** Whether processors run in a thread that may be ended. */
  readonly isolation: 'none' | 'thread';
  /** The entity type of events that name none. */
  readonly entityType: string;
  /** Attempts at one event, the first one included. */
  readonly retryMaxAttempts: number;
  /** Pause after the first failed attempt, in milliseconds; it doubles from there, with jitter. */
  readonly retryInitialMs: number;
  readonly retryMaxMs: number;
  /** One attempt of a handler may take this long, in milliseconds. */
  readonly handlerTimeoutMs: number;
  /** Queues that results of handlers may be sent to, beside those that the broker has named; null: no other. */
  readonly replyQueues: RegExp | null;
  /** Dead letters that waited for a missing event are replayed automatically when it has arrived. */
  readonly autoReplay: boolean;
}

export interface GapRepairConfig {
  /** `event-store`, or the path of a module; null: missing events are waited for. */
  readonly source: string | null;
  /** How long a gap stays open before the source is asked, in milliseconds. */
  readonly afterMs: number;
}

/** The limits on a message, a state and a result. */
export interface LimitsConfig extends EventLimits {
  /** Largest serialised state of one entity, and largest result of a handler, in bytes. */
  readonly maxStateBytes: number;
  /** The memory for deliveries, states and versions of all shards together, in bytes. */
  readonly memoryBudgetBytes: number;
}

/** A viewer reads; an operator also sees headers and bodies, and changes things. */
export type Role = 'viewer' | 'operator';

/** Who has a token of one's own. */
export interface NamedToken {
  readonly name: string;
  readonly role: Role;
  /** SHA-256 of the token, in lower-case hex. */
  readonly hash: string;
}

/** A proxy that says who asks. */
export interface ProxyConfig {
  /** The header with the name of the user. */
  readonly header: string;
  /** Addresses and ranges that it is believed from. */
  readonly addresses: readonly string[];
  /** Names of users who are operators; all others are viewers. */
  readonly operators: readonly string[];
}

export interface HttpConfig {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** An operator's token; null: none. Never printed. */
  readonly adminToken: string | null;
  /** A viewer's token, which is also shown to workers that are asked for their status; null: none. Never printed. */
  readonly readToken: string | null;
  readonly tokens: readonly NamedToken[];
  /** The file of `tokens`, which is read again when it changes; null: none. */
  readonly tokensFile: string | null;
  /** Null: nobody else says who asks. */
  readonly proxy: ProxyConfig | null;
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
  /** How long a stop waits for what is in flight, in milliseconds. */
  readonly shutdownTimeoutMs: number;
  /** Sentences for the log: what is set and has no effect, or sends a password in clear. */
  readonly warnings: readonly string[];
}

/**
 * The name that broker, Redis and PostgreSQL show of a connection: service, role, host and process, as `inorder/worker@host-1#4711`.
 * Without spaces, which Redis does not take; PostgreSQL cuts it to 63 bytes.
 */
export function connectionName(role: string, { serviceName }: Pick<Config, 'serviceName'> = { serviceName: 'inorder' }): string {
  return `${serviceName}/${role}@${hostname()}#${process.pid}`;
}

/** How the stream's workers decode a message; everything that reads messages must use the same. */
export function decodingOf({ limits, processing, ordering }: Config): DecodeOptions {
  return { limits, defaultEntityType: processing.entityType, unsequenced: ordering.unsequenced };
}

let known: string | null = null;

/** Reads it from package.json, both in the checkout and in the build. */
export function packageVersion(): string {
  known ??= readVersion();
  return known;
}

function readVersion(): string {
  for (const candidate of ['../../package.json', '../../../package.json']) {
    try {
      const manifest = JSON.parse(readFileSync(new URL(candidate, import.meta.url), 'utf8')) as { name?: string; version?: string };
      if (manifest.name === 'inorder' && manifest.version !== undefined) return manifest.version;
    } catch {
      // Not found: try the other place.
    }
  }
  return 'unknown';
}
