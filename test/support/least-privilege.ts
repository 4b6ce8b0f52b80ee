/**
 * Workers and commands of tests run as users that may do what `inorder permissions` prints for their role, and nothing else. It needs
 * administrators' URLs to make them; a URL of another kind (through a proxy, of a node of the test's own) stays as it is.
 */
import { createHash } from 'node:crypto';
import { connect } from 'amqplib';
import { Redis } from 'ioredis';
import { planOf } from '../../src/cli/topology.ts';
import { type Environment, loadConfig } from '../../src/config/load.ts';
import { type Permissions, permissionsOf, type RoleName, roleNames } from '../../src/config/permissions.ts';
import { ConfigError } from '../../src/errors.ts';
import { applyTopology } from '../../src/rabbitmq/topology.ts';
import { systemTime } from '../../src/time.ts';
import { servicesInUse, type TestServices } from './services.ts';

type Variables = Readonly<Record<string, string>>;

export type RabbitRight = 'configure' | 'write' | 'read';

/** What every user of tests has. */
const password = 'least';

/** Made in this process, and removed after its tests; each resolves when its user is there. */
const users = new Map<string, Promise<unknown>>();
const removals: (() => Promise<unknown>)[] = [];
process.once('beforeExit', () => void Promise.allSettled(removals.map((remove) => remove())));

/** Which role runs a command, by the table; null for one that asks neither broker nor store. */
export function roleOf(words: readonly string[]): RoleName | null {
  const config = loadConfig({});
  const runs = (role: RoleName) => permissionsOf(role, config).commands.some((name) => `${words.join(' ')} `.startsWith(`${name} `));
  return roleNames.find(runs) ?? null;
}

/** The variables with the users of its role in place of the administrators of the shared services. */
export async function leastPrivileged<V extends Environment>(words: readonly string[], variables: V): Promise<V> {
  const services = await servicesInUse();
  const role = roleOf(words);
  if (services === null || role === null) return variables;
  try {
    const declared = role === 'worker' ? await declareFirst(variables, services) : {};
    return { ...variables, ...(await asRole(role, variables, services)), ...declared };
  } catch (error) {
    // What is wrong with the configuration or the topology is the command's to say.
    if (error instanceof ConfigError) return variables;
    throw error;
  }
}

/** Only the URLs of these services are replaced. */
export async function asRole(role: RoleName, variables: Environment, services: TestServices): Promise<Variables> {
  const permissions = permissionsOf(role, loadConfig(variables), { replies: true });
  const digest = createHash('sha256').update(JSON.stringify(permissions)).digest('hex').slice(0, 8);
  const user = { ...permissions, user: `${permissions.user}-${digest}` };
  const { managementUrl, amqpUrl, redisUrl } = services;
  const changed: Record<string, string> = {};
  if (managementUrl !== null && variables['AMQP_URL'] === amqpUrl) {
    await once(`${managementUrl} ${user.user}`, () => makeRabbitUser(managementUrl, user));
    changed['AMQP_URL'] = withLogin(amqpUrl, user.user);
    if (role === 'doctor' && variables['MANAGEMENT_URL'] === managementUrl) changed['MANAGEMENT_URL'] = withLogin(managementUrl, user.user);
  }
  if (user.redis !== null && variables['REDIS_URL'] === redisUrl) {
    await once(`${redisUrl} ${user.user}`, () => makeRedisUser(redisUrl, user));
    changed['REDIS_URL'] = withLogin(redisUrl, user.user);
  }
  return changed;
}

/** A worker of least privilege verifies the topology, which the role of that name has made. */
async function declareFirst(variables: Environment, services: TestServices): Promise<Variables> {
  if (variables['TOPOLOGY'] !== undefined || variables['AMQP_URL'] !== services.amqpUrl) return {};
  const { AMQP_URL = services.amqpUrl } = await asRole('topology', variables, services);
  const connection = await connect(AMQP_URL);
  try {
    await applyTopology({ ready: async () => connection, time: systemTime }, planOf(loadConfig(variables)));
  } finally {
    await connection.close();
  }
  return { TOPOLOGY: 'verify' };
}

async function once(key: string, make: () => Promise<unknown>): Promise<void> {
  const made = users.get(key) ?? make();
  users.set(key, made);
  await made;
}

function withLogin(url: string, user: string): string {
  const changed = new URL(url);
  [changed.username, changed.password] = [user, password];
  return changed.href.replace(/\/$/, url.endsWith('/') ? '/' : '');
}

async function makeRabbitUser(managementUrl: string, { user, rabbitmq }: Permissions): Promise<void> {
  const { tags, ...rights } = rabbitmq ?? { tags: [] };
  await askManagement(managementUrl, 'PUT', `users/${user}`, { password, tags: tags.join(',') });
  removals.push(() => askManagement(managementUrl, 'DELETE', `users/${user}`));
  await permit(managementUrl, user, rights);
}

/** Replaces the rights of a user; what is not named it has not. */
export function permit(managementUrl: string, user: string, rights: Partial<Record<RabbitRight, string>>): Promise<void> {
  const { configure = '^$', write = '^$', read = '^$' } = rights;
  return askManagement(managementUrl, 'PUT', `permissions/%2F/${user}`, { configure, write, read });
}

/** `rabbitmqctl` takes seconds. */
async function askManagement(managementUrl: string, method: string, path: string, body: object = {}): Promise<void> {
  const { username, password: secret, origin } = new URL(managementUrl);
  const authorization = `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}`;
  const headers = { authorization, 'content-type': 'application/json' };
  const answer = await fetch(`${origin}/api/${path}`, { method, headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
}

async function makeRedisUser(redisUrl: string, { user, redis }: Permissions): Promise<void> {
  await setAcl(redisUrl, user, 'on', `>${password}`, ...(redis?.keys ?? []), ...(redis?.commands ?? []));
  removals.push(() => askRedis(redisUrl, 'DELUSER', user));
}

/** Adds these rules to those of a user. */
export function setAcl(redisUrl: string, user: string, ...rules: readonly string[]): Promise<void> {
  return askRedis(redisUrl, 'SETUSER', user, ...rules);
}

async function askRedis(url: string, ...words: readonly string[]): Promise<void> {
  // A server of a test's own is gone with it.
  const client = new Redis(url, { maxRetriesPerRequest: 1, retryStrategy: () => null });
  client.on('error', () => undefined);
  try {
    await client.call('ACL', ...words);
  } finally {
    client.disconnect();
  }
}
