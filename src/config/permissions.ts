/**
 * What each role of a stream needs at RabbitMQ and in Redis, and nothing else, for a configuration. `inorder permissions` prints it,
 * `deploy/permissions` has it for the default configuration, and the tests run their workers and commands as these users.
 *
 * RabbitMQ has no right to look into a queue without taking from it: whoever may read the dead letters could remove them.
 */
import type { Config } from './config.ts';
import { redisFormOf } from './parsers.ts';

export const roleNames = ['worker', 'publisher', 'relay', 'operator', 'reader', 'topology', 'doctor', 'appender'] as const;
export type RoleName = (typeof roleNames)[number];

export interface Permissions {
  readonly role: RoleName;
  readonly meaning: string;
  /** Commands that run under it; what a console may do depends on whom it runs as. */
  readonly commands: readonly string[];
  /** The name that is proposed for its user, in RabbitMQ and in Redis. */
  readonly user: string;
  /** Regular expressions that RabbitMQ compares with names of exchanges and queues; tags are for the management API. Null: no access. */
  readonly rabbitmq: {
    readonly configure: string;
    readonly write: string;
    readonly read: string;
    readonly tags: readonly string[];
  } | null;
  /** Patterns of keys, and commands as `ACL SETUSER` takes them. Null: no access. */
  readonly redis: { readonly keys: readonly string[]; readonly commands: readonly string[] } | null;
}

/** Names of exchanges and queues without the stream's in front (`''` is its exchange), and commands of Redis. */
interface Rights {
  readonly configure?: readonly string[];
  readonly write?: readonly string[];
  readonly read?: readonly string[];
  readonly tags?: readonly string[];
  /** On the keys of versions and states. */
  readonly state?: readonly string[];
  /** On the two keys of the stream's own state, for a role that needs no entity. */
  readonly standing?: readonly string[];
  /** On the keys of the event store. */
  readonly events?: readonly string[];
}

const defaultExchange = 'amq.default';
const shardQueues = 'shard.[0-9]+';

const scripts = ['evalsha', 'script|load'];
/** Whether shards are halted, and where entities stand. */
const seeStream: Rights = { read: ['store'], state: [...scripts, 'get', 'hgetall', 'hmget', 'scan', 'time'] };
const commit: Rights = { state: [...scripts, 'hdel', 'hget', 'hmget', 'hscan', 'hset', 'pexpire', 'time'] };
/** Under the lock of the dead letters, an exclusive queue. */
const seeLetters: Rights = { configure: ['operator'], read: ['dead-letters'], state: ['hget'] };
/** Beside what a commit needs. */
const replay: Rights = { write: [''], state: ['xadd'] };
const seeEvents: Rights = { events: [...scripts, 'hmget', 'llen', 'lrange', 'xrange'] };
const ask: Rights = { state: ['ping'] };
const see = [ask, seeStream, seeLetters, seeEvents, { state: ['lrange', 'xrevrange'] }];

interface Role {
  readonly meaning: string;
  readonly commands: readonly string[];
  readonly needs: (config: Config) => readonly Rights[];
}

const roles: Readonly<Record<RoleName, Role>> = {
  worker: {
    meaning:
      'Consumes the shards, with TOPOLOGY=verify. Its console needs what the viewers or operators need whom the configuration names.',
    commands: ['worker'],
    needs: (config) => [
      seeStream,
      commit,
      { write: ['store'], read: [shardQueues], state: ['hlen', 'hrandfield', 'hsetnx', 'incr'] },
      config.store.eventLog ? { state: ['rpush'] } : {},
      durable(config),
      config.gapRepair.source === 'event-store' ? seeEvents : {},
      ...(config.processing.autoReplay ? [seeLetters, replay] : []),
      ...serve(config),
    ],
  },
  publisher: {
    meaning: 'Publishes events.',
    commands: ['publish'],
    needs: () => [{ write: [''] }],
  },
  relay: {
    meaning: 'Publishes the events of the event store.',
    commands: ['relay'],
    needs: () => [{ write: [''], events: [...scripts, 'hmget', 'hset', 'time', 'xrange', 'xread'] }],
  },
  operator: {
    meaning: 'Looks, and corrects: replays and discards dead letters, sets versions, recovers, resumes halted shards.',
    commands: [
      'dead-letters replay',
      'dead-letters discard',
      'entity import',
      'entity resync',
      'rebuild',
      'recover',
      'shards resume',
      'console',
    ],
    needs: operate,
  },
  reader: {
    meaning: 'Looks, and changes nothing: also a console that has no operators.',
    commands: [
      'status',
      'dead-letters list',
      'dead-letters show',
      'dead-letters export',
      'entity show',
      'entity list',
      'events list',
      'events verify',
      'audit',
    ],
    needs: () => see,
  },
  topology: {
    meaning: 'Declares exchanges, queues and bindings, and records their number in the store. It may end once they are there.',
    commands: ['topology apply'],
    needs: () => {
      const queues = [shardQueues, 'dead-letters', 'unrouted', 'store'];
      // To name an exchange for dead letters or for what is unrouted, and to bind: what names, or is bound from, has to be readable,
      // what is named, or is bound to, writable.
      const named = ['dlx', 'unrouted', 'store'];
      const declare = { configure: ['', ...named, ...queues], write: [...named, ...queues], read: ['', ...named, shardQueues] };
      return [{ ...declare, standing: [...scripts, 'get', 'hget', 'hgetall', 'hset'] }];
    },
  },
  doctor: {
    meaning: 'Checks the set-up, with the management API.',
    commands: ['doctor', 'topology check'],
    needs: () => [ask, seeStream, { tags: ['monitoring'] }],
  },
  appender: {
    meaning: 'Appends to the event store, and reads it: a program with a repository or aggregates of its own.',
    commands: ['events append'],
    needs: (config) => [seeEvents, durable(config, 'events'), { events: ['hget', 'hset', 'lindex', 'rpush', 'xadd', 'xrevrange'] }],
  },
};

function operate(config: Config): readonly Rights[] {
  const resume: Rights = { write: ['store'], state: ['hdel', 'hkeys', 'hsetnx', 'set'] };
  return [...see, commit, replay, resume, durable(config)];
}

/** What a worker's console shows to viewers and does for operators, who have tokens or come by a proxy. */
function serve(config: Config): readonly Rights[] {
  const { adminToken, readToken, tokens, proxy } = config.http;
  const hasOperators = adminToken !== null || tokens.some(({ role }) => role === 'operator') || (proxy?.operators.length ?? 0) > 0;
  if (hasOperators) return operate(config);
  return readToken !== null || tokens.length > 0 || proxy !== null ? see : [];
}

/** DURABILITY writes a key before it waits. */
function durable({ store: { durability } }: Config, keys: 'state' | 'events' = 'state'): Rights {
  return durability.kind === 'none' ? {} : { [keys]: ['set', durability.kind === 'aof' ? 'waitaof' : 'wait'] };
}

/** `replies`: handlers of the worker send results to the `replyTo` of messages. Default false. */
export function permissionsOf(role: RoleName, config: Config, { replies = false } = {}): Permissions {
  const { meaning, commands, needs } = roles[role];
  const { stream } = config.broker;
  const rights = [...needs(config), role === 'worker' && replies ? { write: [defaultExchange] } : {}];
  const all = (kind: keyof Rights) => [...new Set(rights.flatMap((some) => some[kind] ?? []))].sort();
  const [configure, write, read] = [pattern(stream, all('configure')), pattern(stream, all('write')), pattern(stream, all('read'))];
  const state = config.store.kind === 'redis' ? all('state') : [];
  const standing = config.store.kind === 'redis' ? all('standing') : [];
  const events = config.eventStore.kind === 'redis' ? all('events') : [];
  const epoch = `inorder:${stream}:epoch`;
  const keys = [
    ...(state.length > 0 ? [`~inorder:${stream}:*`] : []),
    ...(standing.length > 0 ? [`~${epoch}`, `~inorder:${stream}:{${epoch}}:standing`] : []),
    ...(events.length > 0 ? [`~inorder:{${stream}}:*`] : []),
  ];
  const names = [...new Set([...state, ...standing, ...events, ...connecting(config)])].sort();
  return {
    role,
    meaning,
    commands,
    user: `${stream}-${role}`,
    rabbitmq: [configure, write, read].every((one) => one === none) ? null : { configure, write, read, tags: all('tags') },
    redis: keys.length === 0 ? null : { keys, commands: names.map((name) => `+${name}`) },
  };
}

const none = '^$';

/** The name of a stream has no character but the dot that means something in a regular expression. */
function pattern(stream: string, names: readonly string[]): string {
  if (names.length === 0) return none;
  const whole = names.map((name) => (name === defaultExchange ? name : name === '' ? stream : `${stream}.${name}`));
  const either = whole.join('|').replaceAll('.', String.raw`\.`);
  return names.length === 1 ? `^${either}$` : `^(${either})$`;
}

/** What the client asks by itself, by the form of REDIS_URL. */
function connecting({ store: { redisUrl } }: Config): readonly string[] {
  const isCluster = redisFormOf(redisUrl) === 'cluster';
  const hasNumber = /\/0*[1-9]\d*(?:\?.*)?$/.test(redisUrl);
  return ['client|setname', 'info', ...(isCluster ? ['cluster|info', 'cluster|slots'] : []), ...(hasNumber ? ['select'] : [])];
}
