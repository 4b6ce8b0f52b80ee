/**
 * The library: exports everything public by name.
 */
export { defineAggregate, defineHandler, type AggregateOptions, type EventWith, type HandlerOptions } from './aggregates/define.ts';
export {
  refuse,
  Refused,
  type Aggregate,
  type Command,
  type DecidedEvent,
  type Decision,
  type Evolve,
  type Handler,
  type HandlerContext,
  type Processor,
} from './aggregates/definition.ts';
export { orderAggregate, type OrderCommands, type OrderState } from './aggregates/built-in.ts';
export { historyAggregate, type HistoryState } from './aggregates/built-in.ts';
export type { Config } from './config/config.ts';
export { loadConfig, type Environment } from './config/load.ts';
export {
  ConfigError,
  EventError,
  InorderError,
  type InorderErrorOptions,
  InvariantError,
  PermanentError,
  RefusedError,
  UnavailableError,
  VersionConflictError,
} from './errors.ts';
export type { BrokerReason, DeadLetter, DeadLetterReason, Grouping, LetterFilter, LetterGroup } from './dead-letters/dead-letter.ts';
export { createDeadLetters, type DeadLetters, type DeadLettersOptions, type ExportedLetter } from './dead-letters/dead-letters.ts';
export type { FoundLetter, Survey } from './dead-letters/inspect.ts';
export type { EntityOutcome, LetterAgain, ReplayOutcome, ReplayReport } from './dead-letters/replay.ts';
export type {
  Blocked,
  EntityReplay,
  LetterStatus,
  LetterSummary,
  LettersOfEntity,
  ReplayPlan,
  NotReplayable,
} from './dead-letters/replay-plan.ts';
export { encodeCloudEvent, type CloudEventMode, type CloudEventOptions } from './events/encode.ts';
export { encodeEvent, type EncodedEvent, type EncodeOptions, type MessageProperties } from './events/encode.ts';
export { defaultEventLimits, type EntityRef, type Event, type EventLimits, type RawMessage } from './events/event.ts';
export type { NewEvent } from './events/encode.ts';
export { rejectionReasons, type ReasonText, type RejectionReason } from './events/reasons.ts';
export { idempotent, InProgressError, type IdempotentOptions } from './idempotency/idempotent.ts';
export { withOrdering, type MiddlewareStrategy, type OrderedInput, type OrderingMiddlewareOptions } from './detection/detector.ts';
export {
  OrderingDetector,
  type Observation,
  type ObservedEvent,
  type OrderingDetectorOptions,
  type OrderingStatistics,
  type Violation,
} from './detection/detector.ts';
export { createMetrics, type Metrics } from './observability/metrics.ts';
export { createLog, type Log, type LogFields, type LogOptions } from './observability/log.ts';
export {
  createPublisher,
  type EventFormat,
  type PublishAllOptions,
  type Publisher,
  type PublisherOptions,
} from './publishing/create-publisher.ts';
export type { PublishCounts } from './publishing/publish-input.ts';
export type { PublishOutcome } from './rabbitmq/publisher.ts';
export type { Begun, IdempotencyStore, IdempotencyStoreOptions } from './stores/idempotency-store.ts';
export { createMemoryIdempotencyStore, type MemoryIdempotencyStoreOptions } from './stores/idempotency-store.ts';
export { createMemoryStore, type MemoryStoreOptions } from './stores/memory/memory-store.ts';
export { createPostgresStore, type PostgresStoreOptions } from './stores/postgres/postgres-store.ts';
export { createRedisIdempotencyStore, type RedisIdempotencyStoreOptions } from './stores/redis/idempotency-store.ts';
export type {
  AppendOptions,
  AppendResult,
  EventStore,
  EventToAppend,
  ExpectedVersion,
  ReadAllOptions,
  ReadOptions,
  RecordedEvent,
  StateSnapshot,
} from './stores/event-store.ts';
export type { PostgresEventStoreOptions } from './stores/postgres/postgres-event-store.ts';
export type { RedisEventStoreOptions } from './stores/redis/redis-event-store.ts';
export type { Store } from './stores/store.ts';
export { createEventStore, type EventStoreOptions } from './stores/open-store.ts';
export {
  AggregateRoot,
  type AggregateClass,
  type ClassRepository,
  type ClassRepositoryOptions,
  createRepository,
  type Worked,
  type WorkOptions,
} from './event-sourcing/aggregate-root.ts';
export type { CommandOf, Handled, HandleOptions, Loaded, NewCommand, Repository, RepositoryOptions } from './event-sourcing/repository.ts';
export type { GapSource, MissingEvents } from './stores/event-store.ts';
export { createWorker, type Worker, type WorkerOptions } from './worker/worker.ts';
export type { GapStatus, ShardStatus, ViolationsStatus, WorkerStatus } from './observability/worker-status.ts';
export { systemTime, type Time, type Timer, type TimerOptions } from './time.ts';
