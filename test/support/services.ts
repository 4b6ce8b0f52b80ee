/**
 * RabbitMQ and Redis for tests.
 *
 * Tests that only use the services share one broker and one store for the whole run (`useServices`) and keep apart by
 * stream name (`uniqueStream`). Tests that break things take a node of their own (`useRabbitNode`, `useRedisNode`).
 * Whatever is started ends with the test, or with its process.
 */
import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import { RabbitNode, type RabbitNodeOptions } from '../../deploy/local/rabbit-node.ts';
import { RedisNode, type RedisNodeOptions } from '../../deploy/local/redis-node.ts';
import { startServices, type Services } from '../../deploy/local/services.ts';
import { waitUntil, type WaitOptions } from '../../deploy/local/wait-until.ts';

/** A condition ends the waiting, so a bound is there for what never comes: it must not be the one that a busy machine breaks. */
export const leastTimeoutMs = 300_000;

export type TestServices = Pick<Services, 'amqpUrl' | 'redisUrl' | 'managementUrl'>;

let shared: Promise<Services> | null = null;

/**
 * The run's services: those of the runner where its environment names them, otherwise ones that are started for this
 * file on first use. They end with the process and not with the test that asked first, for others use them too.
 */
export function useServices(_t?: TestContext): Promise<TestServices> {
  shared ??= startServices({ startTimeoutMs: leastTimeoutMs });
  return shared;
}

/** Those services, if the test uses them. */
export async function servicesInUse(): Promise<TestServices | null> {
  return shared;
}

/** A stream name that no other test uses: safe in names of queues and exchanges. */
export function uniqueStream(prefix = 'test'): string {
  return `${prefix}-${randomBytes(6).toString('hex')}`;
}

/** Who ends what was started for it: a test, or a program that is none. */
export interface Owner {
  after(end: () => unknown): void;
}

/** A RabbitMQ node for this test alone; it is stopped and removed after the test. */
export async function useRabbitNode(t: Owner, options: RabbitNodeOptions = {}): Promise<RabbitNode> {
  const node = await RabbitNode.start(options);
  t.after(() => node.stop());
  return node;
}

/** A Redis server for this test alone; it is stopped and removed after the test. */
export async function useRedisNode(t: Owner, options: RedisNodeOptions = {}): Promise<RedisNode> {
  const node = await RedisNode.start(options);
  t.after(() => node.stop());
  return node;
}

/** Polls until the condition returns something other than false, null or undefined, and returns that. Waits five minutes by default. */
export function waitFor<T>(
  condition: () => T | Promise<T>,
  options: Partial<WaitOptions> & Pick<WaitOptions, 'what'>,
): Promise<Exclude<T, false | null | undefined>> {
  return waitUntil(condition, { ...options, timeoutMs: Math.max(leastTimeoutMs, options.timeoutMs ?? 0) });
}
