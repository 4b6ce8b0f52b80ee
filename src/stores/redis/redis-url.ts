/**
 * The forms in which a Redis can be named:
 *
 *   redis://[user:password@]host[:6379][/db]                          one server
 *   redis+sentinel://[user:password@]host1[:26379],host2/name[/db]    the master that the sentinels call `name`
 *   redis+cluster://[user:password@]host1[:6379],host2                a cluster, found from any of its nodes
 *   redis://host1,host2   or   redis://host1,redis://host2            a cluster as well
 *
 * `rediss` instead of `redis` means TLS to every node. Special characters in user and password are
 * percent-encoded. For sentinels with a separate password: `?sentinel_user=…&sentinel_password=…`.
 */
import { type RedisForm, redisFormOf, redisUrl } from '../../config/parsers.ts';
import { ConfigError } from '../../errors.ts';
import { type TlsFiles, tlsProblems } from '../../tls.ts';

export interface RedisNodeAddress {
  readonly host: string;
  readonly port: number;
}

export interface RedisTarget {
  readonly kind: RedisForm;
  /** The server; the sentinels; some nodes of the cluster. */
  readonly nodes: readonly [RedisNodeAddress, ...RedisNodeAddress[]];
  /** Its files, for `rediss`; null: without TLS. */
  readonly tls: Partial<TlsFiles> | null;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  /** For a `sentinel` target only. */
  readonly masterName: string | undefined;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPassword: string | undefined;
}

const redisPort = 6379;
const sentinelPort = 26379;

/** Throws `ConfigError`, which never contains the URL, because that may contain a password; also if the files of TLS cannot be used. */
export function parseRedisUrl(text: string, files: Partial<TlsFiles> = {}): RedisTarget {
  const scheme = /^(rediss?)(?:\+(?:sentinel|cluster))?:\/\//.exec(text);
  if (scheme === null) throw invalid('it starts with none of redis://, rediss://, redis+sentinel://, redis+cluster://');
  const parts = text
    .slice(scheme[0].length)
    .split(',')
    .map((part) => parsePart(part.replace(/^rediss?:\/\//, '')));
  const unread = redisUrl.flaw?.(text);
  if (unread != null) throw invalid(unread);
  const hasTls = scheme[1] === 'rediss';
  if (!hasTls && Object.values(files).some((file) => file != null)) throw invalid('it is without TLS, and `tls` is given: use rediss://');
  const problems = tlsProblems(files);
  if (problems.length > 0) throw new ConfigError(problems);
  const [first, ...others] = parts;
  if (first === undefined) throw invalid('it names no host');
  const last = parts.at(-1) ?? first;
  const kind = redisFormOf(text);
  const path = last.pathname.split('/').filter((step) => step !== '');
  const masterName = kind === 'sentinel' ? path.shift() : undefined;
  if (kind === 'sentinel' && masterName === undefined) throw invalid('after the sentinels it needs /<name of the master>');
  const defaultPort = kind === 'sentinel' ? sentinelPort : redisPort;
  return {
    kind,
    nodes: [address(first, defaultPort), ...others.map((part) => address(part, defaultPort))],
    tls: hasTls ? files : null,
    username: decoded(first.username),
    password: decoded(first.password),
    db: parseDb(path, kind),
    masterName: masterName === undefined ? undefined : decoded(masterName),
    sentinelUsername: last.searchParams.get('sentinel_user') ?? undefined,
    sentinelPassword: last.searchParams.get('sentinel_password') ?? undefined,
  };
}

/** The target for messages, without user and password. */
export function describeTarget(target: RedisTarget): string {
  const nodes = target.nodes.map((node) => `${node.host}:${node.port}`).join(',');
  if (target.kind === 'server') return `Redis at ${nodes}`;
  if (target.kind === 'cluster') return `the Redis cluster at ${nodes}`;
  return `the Redis master ${target.masterName} of the sentinels at ${nodes}`;
}

function parsePart(part: string): URL {
  try {
    const url = new URL(`redis://${part}`);
    if (url.hostname !== '') return url;
  } catch {
    // The platform's own message would contain the text, and the password in it.
  }
  throw invalid('a host, a port or the part before @ is not well-formed');
}

function address(url: URL, defaultPort: number): RedisNodeAddress {
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? defaultPort : Number(url.port) };
}

function parseDb(path: readonly string[], kind: RedisTarget['kind']): number {
  const [text = '0', ...rest] = path;
  if (rest.length > 0 || !/^\d{1,5}$/.test(text)) throw invalid('its path is not the number of a database');
  if (kind === 'cluster' && text !== '0') throw invalid('a cluster has no database other than 0');
  return Number(text);
}

function decoded(text: string): string | undefined {
  if (text === '') return undefined;
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('a percent-encoded part is not well-formed');
  }
}

function invalid(problem: string): ConfigError {
  return new ConfigError([`The URL of Redis is not valid: ${problem}.`]);
}
