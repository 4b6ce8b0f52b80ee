/**
 * Brings up the RabbitMQ and the Redis that a demo or a test run needs, by the first way that works:
 *
 *   given URLs → Docker → private nodes of installed binaries → Debian packages (as root), then private nodes
 *
 * Each way either succeeds or says in one sentence why it cannot; when none works, those sentences and what
 * to do about them are the error. What was given is used as it is and never stopped; what was started here
 * ends with `stop`, or with this process, however it ends.
 */
import { UnavailableError } from '../../src/errors.ts';
import { installDebianPackages } from './debian-packages.ts';
import { startInDocker } from './docker-services.ts';
import { findExecutable, findRabbitBinaries } from './rabbit-binaries.ts';
import { RabbitNode } from './rabbit-node.ts';
import { RedisNode } from './redis-node.ts';

/** More than a slow machine takes; who waits for a demo is told then what hangs. */
const userPatienceMs = 90_000;

export type ServicesSource = 'given' | 'docker' | 'private-nodes';

export interface Services {
  readonly amqpUrl: string;
  readonly redisUrl: string;
  /** Base URL of RabbitMQ's management API with credentials; null where a given broker came without `MANAGEMENT_URL`. */
  readonly managementUrl: string | null;
  /** Where the services come from; with one URL given, where the other one comes from. */
  readonly source: ServicesSource;
  /** Ends what was started here. Safe to call twice. */
  stop(): Promise<void>;
}

export interface StartServicesOptions {
  /** Receives one line for each step that takes a user's time, such as an installation. Default: silence. */
  readonly log?: (line: string) => void;
  /** Receives one line for each way that was passed over, with the reason, and for the one that was taken. */
  readonly explain?: (line: string) => void;
  /** Where `AMQP_URL`, `REDIS_URL`, `MANAGEMENT_URL`, `PATH` and the images' names are read. Default `process.env`. */
  readonly env?: NodeJS.ProcessEnv;
  /** How long each service may take to come up before its way is passed over, in milliseconds. Default 90,000. */
  readonly startTimeoutMs?: number;
}

/** The services that were not given and so have to be started. */
export interface Needs {
  readonly rabbit: boolean;
  readonly redis: boolean;
}

/** What one way brought up, as far as it was needed. */
export interface Started {
  readonly amqpUrl: string | null;
  readonly redisUrl: string | null;
  readonly managementUrl: string | null;
  stop(): Promise<void>;
}

/** A way that cannot be taken, and why: completes the sentence "passed over Docker: …". */
export interface Refusal {
  readonly refused: string;
}

export interface WayContext {
  readonly needs: Needs;
  readonly env: NodeJS.ProcessEnv;
  readonly log: (line: string) => void;
  readonly startTimeoutMs: number;
}

interface Way {
  readonly name: string;
  readonly source: ServicesSource;
  readonly start: (context: WayContext) => Promise<Started | Refusal>;
}

const ways: readonly Way[] = [
  { name: 'Docker', source: 'docker', start: startInDocker },
  { name: 'installed binaries', source: 'private-nodes', start: startPrivateNodes },
  { name: 'Debian packages', source: 'private-nodes', start: startFromPackages },
];

const remedies = `Any one of these helps:
  - set AMQP_URL and REDIS_URL to a RabbitMQ and a Redis that may be used
  - start Docker, with access to its images or with rabbitmq:4-management and redis:7 present
  - install RabbitMQ and Redis, for instance: sudo apt-get install rabbitmq-server redis-server`;

/** Throws `UnavailableError`, with what was tried and what helps, when there is no way to get both services. */
export async function startServices(options: StartServicesOptions = {}): Promise<Services> {
  const env = options.env ?? process.env;
  const explain = options.explain ?? (() => undefined);
  const given = { amqpUrl: env.AMQP_URL || null, redisUrl: env.REDIS_URL || null };
  const needs: Needs = { rabbit: given.amqpUrl === null, redis: given.redisUrl === null };
  const fromOutside: Started = { ...given, managementUrl: env.MANAGEMENT_URL || null, stop: async () => undefined };
  if (!needs.rabbit && !needs.redis) {
    explain('services: using AMQP_URL and REDIS_URL as given');
    return combine(fromOutside, fromOutside, 'given');
  }
  const { log = () => undefined, startTimeoutMs = userPatienceMs } = options;
  const reasons = [`given URLs: ${missingVariables(needs)} not set`];
  for (const way of ways) {
    const result = await way.start({ needs, env, log, startTimeoutMs });
    if ('refused' in result) {
      reasons.push(`${way.name}: ${result.refused}`);
      continue;
    }
    explain(`services: using ${way.name} (passed over ${reasons.join('; ')})`);
    return combine(needs.rabbit ? result : fromOutside, needs.redis ? result : fromOutside, way.source, result.stop);
  }
  const tried = reasons.map((reason) => `  - ${reason}`).join('\n');
  throw new UnavailableError(`RabbitMQ and Redis are needed, and there is no way to get them here:\n${tried}\n${remedies}`);
}

function combine(rabbit: Started, redis: Started, source: ServicesSource, stop = rabbit.stop): Services {
  if (rabbit.amqpUrl === null || redis.redisUrl === null) throw new Error(`${source} did not bring up what was needed`);
  return { amqpUrl: rabbit.amqpUrl, redisUrl: redis.redisUrl, managementUrl: rabbit.managementUrl, source, stop };
}

function missingVariables(needs: Needs): string {
  const names = [needs.rabbit ? 'AMQP_URL' : null, needs.redis ? 'REDIS_URL' : null].filter((name) => name !== null);
  return `${names.join(' and ')} ${names.length === 1 ? 'is' : 'are'}`;
}

function missingBinaries(needs: Needs, env: NodeJS.ProcessEnv): string[] {
  return [
    ...(needs.rabbit && findRabbitBinaries(env) === null ? ['RabbitMQ'] : []),
    ...(needs.redis && findExecutable('redis-server', env) === null ? ['Redis'] : []),
  ];
}

async function startPrivateNodes({ needs, env, startTimeoutMs }: WayContext): Promise<Started | Refusal> {
  const missing = missingBinaries(needs, env);
  if (missing.length > 0) return { refused: `${missing.join(' and ')} not installed` };
  // Both starts are awaited whatever becomes of the other, so that a failure leaves no node behind.
  const [rabbit, redis] = await Promise.allSettled([
    needs.rabbit ? RabbitNode.start({ startTimeoutMs }) : null,
    needs.redis ? RedisNode.start({ appendonly: true, startTimeoutMs }) : null,
  ]);
  const nodes = [rabbit, redis].map((start) => (start.status === 'fulfilled' ? start.value : null));
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node?.stop()));
  };
  if (rabbit.status === 'rejected' || redis.status === 'rejected') {
    await stop();
    const failure: unknown = rabbit.status === 'rejected' ? rabbit.reason : (redis as PromiseRejectedResult).reason;
    return { refused: failure instanceof Error ? failure.message : String(failure) };
  }
  return {
    amqpUrl: rabbit.value?.amqpUrl ?? null,
    redisUrl: redis.value?.redisUrl ?? null,
    managementUrl: rabbit.value?.managementUrl ?? null,
    stop,
  };
}

async function startFromPackages(context: WayContext): Promise<Started | Refusal> {
  const missing = missingBinaries(context.needs, context.env);
  // The binaries are there and did not start: installing them again would change nothing.
  if (missing.length === 0) return { refused: 'already installed' };
  const packages = missing.map((service) => (service === 'RabbitMQ' ? 'rabbitmq-server' : 'redis-server'));
  const refused = await installDebianPackages(packages, context.env, context.log);
  return refused === null ? startPrivateNodes(context) : { refused };
}
