/**
 * RabbitMQ and Redis in containers, through testcontainers.
 *
 * Docker counts as a way only if an engine answers and has the images or can really get them: an engine without a
 * registry is not Docker. Containers listen on ports that other machines may reach, so their passwords are random.
 * They are removed by `stop`; if this process dies first, by testcontainers' reaper where its image can be had, and
 * otherwise by a guardian that watches this process and calls `docker rm`.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { findExecutable } from './rabbit-binaries.ts';
import type { Refusal, Started, WayContext } from './services.ts';

type Testcontainers = typeof import('testcontainers');
type RuntimeClient = Awaited<ReturnType<Testcontainers['getContainerRuntimeClient']>>;
type Container = import('testcontainers').StartedTestContainer;

const DEFAULT_RABBIT_IMAGE = 'rabbitmq:4-management';
const DEFAULT_REDIS_IMAGE = 'redis:7';
const ENGINE_ANSWER_MS = 10_000;
/** A pull that shows no progress for this long is given up; one that goes on may take its time. */
const PULL_SILENCE_MS = 20_000;
const CONTAINER_START_MS = 120_000;
const AMQP_PORT = 5672;
const MANAGEMENT_PORT = 15672;
const REDIS_PORT = 6379;

const GUARDIAN = `trap '' HUP INT TERM; read -r word && [ "$word" = released ] || exec docker rm -f -v "$1"`;

/** The images are `RABBITMQ_IMAGE` and `REDIS_IMAGE`, by default rabbitmq:4-management and redis:7. */
export async function startInDocker({ needs, env, log }: WayContext): Promise<Started | Refusal> {
  const testcontainers = await import('testcontainers').catch(() => null);
  if (testcontainers === null) return { refused: 'testcontainers is not installed' };
  const engine = await within(ENGINE_ANSWER_MS, testcontainers.getContainerRuntimeClient());
  if (engine === null) return { refused: 'no engine answers' };
  const rabbitImage = env.RABBITMQ_IMAGE || DEFAULT_RABBIT_IMAGE;
  const redisImage = env.REDIS_IMAGE || DEFAULT_REDIS_IMAGE;
  for (const image of [...(needs.rabbit ? [rabbitImage] : []), ...(needs.redis ? [redisImage] : [])]) {
    const refused = await obtainImage(testcontainers, engine, image, log);
    if (refused !== null) return { refused };
  }
  await chooseReaper(testcontainers, engine);

  const password = randomBytes(12).toString('hex');
  const [rabbit, redis] = await Promise.allSettled([
    needs.rabbit ? startRabbit(testcontainers, rabbitImage, password) : null,
    needs.redis ? startRedis(testcontainers, redisImage, password) : null,
  ]);
  const containers = [rabbit, redis].map((start) => (start.status === 'fulfilled' ? start.value : null));
  const releases = containers.map((container) => (container === null ? () => undefined : guardContainer(container.getId())));
  const stop = async (): Promise<void> => {
    await Promise.all(containers.splice(0).map((container) => container?.stop({ timeout: 0 })));
    for (const release of releases) release();
  };
  if (rabbit.status === 'rejected' || redis.status === 'rejected') {
    await stop();
    const failure: unknown = rabbit.status === 'rejected' ? rabbit.reason : (redis as PromiseRejectedResult).reason;
    return { refused: `a container did not start: ${failure instanceof Error ? failure.message : String(failure)}` };
  }
  const at = (container: Container, port: number): string => `${container.getHost()}:${container.getMappedPort(port)}`;
  return {
    amqpUrl: rabbit.value === null ? null : `amqp://inorder:${password}@${at(rabbit.value, AMQP_PORT)}`,
    managementUrl: rabbit.value === null ? null : `http://inorder:${password}@${at(rabbit.value, MANAGEMENT_PORT)}`,
    redisUrl: redis.value === null ? null : `redis://:${password}@${at(redis.value, REDIS_PORT)}`,
    stop,
  };
}

function startRabbit({ GenericContainer, Wait }: Testcontainers, image: string, password: string): Promise<Container> {
  return new GenericContainer(image)
    .withExposedPorts(AMQP_PORT, MANAGEMENT_PORT)
    .withEnvironment({ RABBITMQ_DEFAULT_USER: 'inorder', RABBITMQ_DEFAULT_PASS: password })
    .withCopyContentToContainer([
      {
        content: '[rabbitmq_consistent_hash_exchange,rabbitmq_management].\n',
        target: '/etc/rabbitmq/enabled_plugins',
        mode: 0o644,
      },
    ])
    .withWaitStrategy(Wait.forLogMessage(/Server startup complete/))
    .withStartupTimeout(CONTAINER_START_MS)
    .start();
}

function startRedis({ GenericContainer, Wait }: Testcontainers, image: string, password: string): Promise<Container> {
  return new GenericContainer(image)
    .withExposedPorts(REDIS_PORT)
    .withCommand(['redis-server', '--appendonly', 'yes', '--save', '', '--maxmemory-policy', 'noeviction', '--requirepass', password])
    .withWaitStrategy(Wait.forLogMessage(/Ready to accept connections/))
    .withStartupTimeout(CONTAINER_START_MS)
    .start();
}

/** Null when the image is present now, otherwise why it cannot be had. */
async function obtainImage(
  { ImageName }: Testcontainers,
  engine: RuntimeClient,
  image: string,
  log: (line: string) => void,
): Promise<string | null> {
  const present = await within(ENGINE_ANSWER_MS, engine.image.exists(ImageName.fromString(image)));
  if (present === true) return null;
  log(`pulling ${image}, once`);
  const problem = await pull(engine, image);
  return problem === null ? null : `an engine answers, but ${image} is absent and cannot be pulled (${problem})`;
}

/** Pulls with the engine's own progress messages as the sign of life. */
async function pull(engine: RuntimeClient, image: string): Promise<string | null> {
  const givingUp = new AbortController();
  let silence = setTimeout(() => givingUp.abort(), PULL_SILENCE_MS);
  const heard = (): void => {
    clearTimeout(silence);
    silence = setTimeout(() => givingUp.abort(), PULL_SILENCE_MS);
  };
  try {
    const messages = await engine.container.dockerode.pull(image, { abortSignal: givingUp.signal });
    let text = '';
    for await (const chunk of messages) {
      heard();
      text = (text + String(chunk)).slice(-10_000);
    }
    // The engine answers 200 before it knows; a failure then comes as the last message.
    return /"error":"([^"]*)/.exec(text)?.[1] ?? null;
  } catch (error) {
    if (givingUp.signal.aborted) return `no progress for ${PULL_SILENCE_MS / 1000} s`;
    return error instanceof Error ? error.message : String(error);
  } finally {
    clearTimeout(silence);
  }
}

/** Without its image, testcontainers would fail on its reaper before it started anything. */
async function chooseReaper({ ImageName }: Testcontainers, engine: RuntimeClient): Promise<void> {
  if (process.env.TESTCONTAINERS_RYUK_DISABLED !== undefined) return;
  const { REAPER_IMAGE } = await import('testcontainers/build/reaper/reaper.js');
  const image = ImageName.fromString(REAPER_IMAGE);
  const present = await engine.image.exists(image).catch(() => false);
  if (!present && (await pull(engine, image.string)) !== null) process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
}

/** Where the reaper is disabled: removes the container when this process dies. Returns what releases it. */
function guardContainer(id: string): () => void {
  if (process.env.TESTCONTAINERS_RYUK_DISABLED !== 'true' || findExecutable('docker') === null) return () => undefined;
  const guardian = spawn('/bin/sh', ['-c', GUARDIAN, 'inorder-guardian', id], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guardian.stdin.on('error', () => undefined);
  guardian.on('error', () => undefined);
  guardian.unref();
  (guardian.stdin as unknown as Socket).unref();
  return () => guardian.stdin.end('released\n');
}

/** The value, or null when the promise rejects or takes longer. */
async function within<T>(limitMs: number, promise: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}
