/**
 * How a worker starts. First it checks broker and store: it waits, with back-off, for one that is unavailable, refuses to start where
 * events would be lost (naming every problem), and logs what an operator should know. Then it subscribes to its shards, in an order
 * that leaves other workers, which start at the same time, their share.
 */
import { readFileSync } from 'node:fs';
import type { Config } from '../config/config.ts';
import { ConfigError, noDescriptorLeft } from '../errors.ts';
import { failure, type Finding, ok } from '../finding.ts';
import { mostInAll } from '../observability/http.ts';
import type { Log } from '../observability/log.ts';
import type { BrokerConnection } from '../rabbitmq/connection.ts';
import { versionFinding } from '../rabbitmq/topology-check.ts';
import { planTopology } from '../rabbitmq/topology-plan.ts';
import { applyTopology, verifyTopology } from '../rabbitmq/topology.ts';
import { layoutFinding } from '../stores/layout.ts';
import type { Store } from '../stores/store.ts';
import { patiently, type Time, sleep } from '../time.ts';

export interface StartOptions {
  readonly config: Config;
  readonly log: Log;
  /** Ends the wait. */
  readonly signal: AbortSignal;
  readonly time: Time;
}

/**
 * The most that a worker has open: Node's own files, some connections to the broker and up to a dozen to each of three stores (its
 * own, the console's and the event store), however many shards it has; and those of its visitors.
 */
export const openFilesNeeded = 128 + mostInAll;

/** Whether this process may open `needed` files; ok where the system does not say how many it may. */
export function openFilesFinding(needed: number, limits = systemLimits()): Finding {
  const subject = 'open files';
  const [, soft] = /^Max open files +(\d+)/m.exec(limits) ?? [];
  if (soft === undefined) return ok(subject, 'no limit is known');
  if (Number(soft) >= needed) return ok(subject, `at most ${soft}, and a worker needs ${needed}`);
  return failure(subject, `this process may have ${soft}, and a worker needs ${needed}`, noDescriptorLeft.remedy);
}

/** As Linux shows the limits of a process; elsewhere empty. */
function systemLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}

/** Refuses a process that may open too few files, and a store that would lose what was committed. */
export async function checkSurroundings(store: Store, options: StartOptions): Promise<void> {
  refuseFailures([openFilesFinding(openFilesNeeded)]);
  const findings = await untilAvailable('the store is not there yet', () => store.inspect(), options);
  refuseFailures(findings);
  for (const finding of findings) warnOf(finding, options.log);
}

function refuseFailures(findings: readonly Finding[]): void {
  const failures = findings.filter(({ level }) => level === 'failure');
  if (failures.length > 0)
    throw new ConfigError(failures.map(({ subject, detail, remedy }) => `${subject}: ${detail}${remedy === null ? '' : `; ${remedy}`}`));
}

/** Refuses a store that has the stream in another layout or shape, before anything is declared for it. */
export async function checkLayout(store: Pick<Store, 'streamState'>, options: StartOptions): Promise<void> {
  const { layout } = await untilAvailable('the store is not there yet', () => store.streamState(), options);
  refuseFailures([layoutFinding(layout, options.config.broker)]);
}

/** Records the layout, once the topology is there. If two start a stream at once in different shapes, the later one is refused. */
export async function recordLayout(store: Pick<Store, 'recordLayout'>, options: StartOptions): Promise<void> {
  const { broker } = options.config;
  refuseFailures([layoutFinding(await untilAvailable('the store is not there yet', () => store.recordLayout(broker), options), broker)]);
}

/** Declares or verifies the topology, as TOPOLOGY says. Messages are published over a separate connection. */
export async function prepareTopology(connection: BrokerConnection, publishing: BrokerConnection, options: StartOptions): Promise<void> {
  const { stream, shards, queueType, exchangeType, topology } = options.config.broker;
  const plan = planTopology({ stream, shards, queueType, exchangeType });
  const prepare = () => (topology === 'declare' ? applyTopology(connection, plan, publishing) : verifyTopology(connection, plan));
  await untilAvailable('the broker is not there yet', prepare, options);
  warnOf(versionFinding(connection.brokerVersion ?? 'of an unknown version'), options.log);
}

function warnOf({ level, subject, detail, remedy }: Finding, log: Log): void {
  if (level !== 'ok') log.warn({ subject, remedy }, detail);
}

/** Asks without end, and logs each time what is waited for. */
export function untilAvailable<R>(meanwhile: string, ask: () => Promise<R>, { log, signal, time }: StartOptions): Promise<R> {
  return patiently(ask, {
    time,
    signal,
    pauses: { initialMs: 200, maxMs: 5_000 },
    onUnavailable: ({ message }) => log.warn({ cause: message }, meanwhile),
  });
}

export interface WorkerShare {
  /** From 0. */
  readonly ordinal: number;
  readonly replicas: number;
}

export interface StartOrderOptions {
  readonly shards: readonly number[];
  /** Null: all shards at once. */
  readonly share: WorkerShare | null;
  readonly start: (shard: number) => void;
  /** Consumers of each shard, in the order asked; null where that is not known. Never rejects. */
  readonly consumersOf: (shards: readonly number[]) => Promise<readonly (number | null)[]>;
  readonly signal: AbortSignal;
  /** How long to wait for the other workers, in milliseconds. Default 10,000. */
  readonly patienceMs?: number;
  readonly time: Time;
}

const defaultPatienceMs = 10_000;
const pollMs = 250;

/** The share of an ordinal: the shards whose remainder by `replicas` it is. */
export function isOwnShare(shard: number, { ordinal, replicas }: WorkerShare): boolean {
  return shard % replicas === ordinal % replicas;
}

/**
 * Starts the shards in turn; resolves when all are started, or the signal aborts. The first to subscribe becomes the active consumer of
 * a shard, so each worker starts with its own share and becomes a standby for the rest once the others have taken theirs. The wait is
 * short: a shard that still has no consumer is taken.
 */
export async function startShards(options: StartOrderOptions): Promise<void> {
  const { shards, share, start, consumersOf, signal, patienceMs = defaultPatienceMs, time } = options;
  const own = share === null ? shards : shards.filter((shard) => isOwnShare(shard, share));
  for (const shard of own) start(shard);
  let others = shards.filter((shard) => !own.includes(shard));
  for (const deadlineMs = time.nowMs() + patienceMs; others.length > 0 && time.nowMs() < deadlineMs; ) {
    const consumers = await consumersOf(others);
    if (signal.aborted) return;
    const taken = others.filter((_, index) => (consumers[index] ?? 0) > 0);
    for (const shard of taken) start(shard);
    others = others.filter((shard) => !taken.includes(shard));
    if (others.length > 0) await sleep(time, pollMs, signal);
    if (signal.aborted) return;
  }
  for (const shard of others) start(shard);
}
