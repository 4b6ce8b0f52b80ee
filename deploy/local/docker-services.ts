/**
 * RabbitMQ and Redis in containers, through testcontainers.
 *
 * Docker counts as a way only if an engine answers and has the images or can really get them: an engine without a
 * registry is not Docker. Containers listen on ports that other machines may reach, so their passwords are random.
 * `stop` removes them; docker-ownership.ts does when this process dies first.
 */
import { randomBytes } from 'node:crypto';
import { obtainImage } from './docker-images.ts';
import { chooseReaper, guardContainer, ownerLabels, sweepStaleContainers } from './docker-ownership.ts';
import type { Refusal, Started, WayContext } from './services.ts';

type Testcontainers = typeof import('testcontainers');
type Container = import('testcontainers').StartedTestContainer;

const defaultRabbitImage = 'rabbitmq:4-management';
const defaultRedisImage = 'redis:7';
const engineAnswerMs = 10_000;
const amqpPort = 5672;
const managementPort = 15672;
const redisPort = 6379;

/** The images are `RABBITMQ_IMAGE` and `REDIS_IMAGE`, by default rabbitmq:4-management and redis:7. */
export async function startInDocker({ needs, env, log, startTimeoutMs }: WayContext): Promise<Started | Refusal> {
  const testcontainers = await import('testcontainers').catch(() => null);
  if (testcontainers === null) return { refused: 'testcontainers is not installed' };
  const engine = await within(engineAnswerMs, testcontainers.getContainerRuntimeClient());
  if (engine === null) return { refused: 'no engine answers' };
  const rabbitImage = env.RABBITMQ_IMAGE || defaultRabbitImage;
  const redisImage = env.REDIS_IMAGE || defaultRedisImage;
  for (const image of [...(needs.rabbit ? [rabbitImage] : []), ...(needs.redis ? [redisImage] : [])]) {
    const problem = await obtainImage(engine, image, () => log(`pulling ${image}, once`));
    if (problem !== null) return { refused: `an engine answers, but ${image} is absent and cannot be pulled (${problem})` };
  }
  await chooseReaper(engine);
  await sweepStaleContainers(engine);

  const password = randomBytes(12).toString('hex');
  const [rabbit, redis] = await Promise.allSettled([
    needs.rabbit ? startRabbit(testcontainers, rabbitImage, password, startTimeoutMs) : null,
    needs.redis ? startRedis(testcontainers, redisImage, password, startTimeoutMs) : null,
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
    amqpUrl: rabbit.value === null ? null : `amqp://inorder:${password}@${at(rabbit.value, amqpPort)}`,
    managementUrl: rabbit.value === null ? null : `http://inorder:${password}@${at(rabbit.value, managementPort)}`,
    redisUrl: redis.value === null ? null : `redis://:${password}@${at(redis.value, redisPort)}`,
    stop,
  };
}

function startRabbit(
  { GenericContainer, Wait }: Testcontainers,
  image: string,
  password: string,
  startTimeoutMs: number,
): Promise<Container> {
  return new GenericContainer(image)
    .withLabels(ownerLabels())
    .withExposedPorts(amqpPort, managementPort)
    .withEnvironment({ RABBITMQ_DEFAULT_USER: 'inorder', RABBITMQ_DEFAULT_PASS: password })
    .withCopyContentToContainer([
      {
        content: '[rabbitmq_consistent_hash_exchange,rabbitmq_management].\n',
        target: '/etc/rabbitmq/enabled_plugins',
        mode: 0o644,
      },
    ])
    .withWaitStrategy(Wait.forLogMessage(/Server startup complete/))
    .withStartupTimeout(startTimeoutMs)
    .start();
}

function startRedis(
  { GenericContainer, Wait }: Testcontainers,
  image: string,
  password: string,
  startTimeoutMs: number,
): Promise<Container> {
  return new GenericContainer(image)
    .withLabels(ownerLabels())
    .withExposedPorts(redisPort)
    .withCommand(['redis-server', '--appendonly', 'yes', '--save', '', '--maxmemory-policy', 'noeviction', '--requirepass', password])
    .withWaitStrategy(Wait.forLogMessage(/Ready to accept connections/))
    .withStartupTimeout(startTimeoutMs)
    .start();
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
