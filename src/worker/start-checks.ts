/**
 * The checks of broker and store before a worker consumes anything. It waits, with back-off, for one that is unavailable, refuses
 * to start where events would be lost (naming every problem), and logs what an operator should know.
 */
import type { Config } from '../config/config.ts';
import { ConfigError } from '../errors.ts';
import type { Finding } from '../finding.ts';
import { mostInAll } from '../observability/connections.ts';
import type { Log } from '../observability/log.ts';
import { openFilesFinding } from '../open-files.ts';
import { versionFinding } from '../rabbitmq/topology-check.ts';
import type { BrokerConnection } from '../rabbitmq/connection.ts';
import { planTopology } from '../rabbitmq/topology-plan.ts';
import { applyTopology, verifyTopology } from '../rabbitmq/topology.ts';
import type { Store } from '../stores/store.ts';
import { patiently, type Time } from '../time.ts';

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
