/**
 * What makes a set-up unsafe though it works, for `inorder doctor`: passwords and events in clear, default logins and doors without a lock
 * beyond this machine, and users that may do more than they have to. All of it are warnings; who may do what is in `deploy/README.md`.
 */
import pg from 'pg';
import type { Config } from '../config/config.ts';
import { type Finding, ok, warning } from '../finding.ts';
import { hasUsers, isLoopback } from '../observability/gate.ts';
import { type Listener, managementOf, type WhoAmI } from '../rabbitmq/management.ts';
import { parseRedisUrl } from '../stores/redis/redis-url.ts';
import type { Time } from '../time.ts';

/** A server that a variable names. */
interface Endpoint {
  readonly variable: string;
  readonly host: string;
  readonly isEncrypted: boolean;
  /** The remedy for one in clear. */
  readonly encrypt: string;
  /** What is wrong with the login if others can reach the server; null: nothing. */
  readonly weakLogin: string | null;
}

/** What the management API says of its user and of itself; null and empty if unknown. */
interface Seen {
  readonly user: WhoAmI | null;
  readonly listeners: readonly Listener[];
}

export async function checkSafety(config: Config, time: Time): Promise<readonly Finding[]> {
  const management = managementOf(config.broker, time);
  const [user, overview] = await Promise.all([management?.whoAmI(), management?.overview()]);
  return safetyFindings(config, {
    user: user?.ok ? user.value : null,
    listeners: overview?.ok ? (overview.value.listeners ?? []) : [],
  });
}

export function safetyFindings(config: Config, { user, listeners }: Seen): readonly Finding[] {
  const beyond = endpointsOf(config).filter(({ host }) => !isLoopback(host));
  const inClear = beyond.filter(({ isEncrypted }) => !isEncrypted);
  const weak = beyond.filter(({ weakLogin }) => weakLogin !== null);
  return [
    ...(inClear.length === 0 ? [ok('encryption', 'whatever leaves this machine is encrypted')] : []),
    ...inClear.map(({ variable, host, encrypt }) =>
      warning('encryption', `${variable} leads to ${host} in clear: passwords and events can be read on the way`, encrypt),
    ),
    ...(beyond.some(({ variable, isEncrypted }) => variable === 'AMQP_URL' && isEncrypted) ? listenersInClear(listeners) : []),
    ...(weak.length === 0 ? [ok('logins', 'no default one beyond this machine')] : []),
    ...weak.map(({ variable, host, weakLogin }) =>
      warning('logins', `${variable} leads to ${host} ${weakLogin}`, 'make users of your own with what `inorder permissions` prints'),
    ),
    ...rightsFindings(user),
    httpFinding(config),
  ];
}

function endpointsOf({ broker, store, eventStore }: Config): readonly Endpoint[] {
  const urls = broker.urls.map((url) => ['AMQP_URL', url] as const);
  const managed = broker.managementUrl === null ? [] : [['MANAGEMENT_URL', broker.managementUrl] as const];
  const kinds = [store.kind, eventStore.kind];
  return [
    ...[...urls, ...managed].map(([variable, url]): Endpoint => {
      const { protocol, hostname: host, username } = new URL(url);
      const [plain, encrypted] = variable === 'AMQP_URL' ? ['amqp:', 'amqps:'] : ['http:', 'https:'];
      const isGuest = (username === '' || username === 'guest') && broker.auth === 'plain';
      const encrypt = `use ${encrypted}// there`;
      return { variable, host, isEncrypted: protocol !== plain, encrypt, weakLogin: isGuest ? 'as the default user guest' : null };
    }),
    ...(kinds.includes('redis') ? redisEndpoints(store) : []),
    ...(kinds.includes('postgres') ? postgresEndpoints(store) : []),
  ];
}

/** A broker that is reached over TLS may take others without. */
function listenersInClear(listeners: readonly Listener[]): readonly Finding[] {
  const isOpen = ({ protocol, ip_address, socket_opts }: Listener) =>
    /^(amqp|http)$/.test(protocol) && !isLoopback(socket_opts?.ip ?? ip_address);
  const open = listeners.filter(isOpen);
  const ports = [...new Set(open.map(({ protocol, port }) => `${protocol} at port ${port}`))].join(', ');
  const remedy = 'set `listeners.tcp = none` and `management.ssl.*` in rabbitmq.conf';
  return ports === '' ? [] : [warning('encryption', `the broker takes others in clear: ${ports}`, remedy)];
}

function redisEndpoints({ redisUrl, redisTls }: Config['store']): readonly Endpoint[] {
  const { nodes, tls, username, password } = parseRedisUrl(redisUrl, redisTls);
  const isKnownByCertificate = tls?.certFile != null;
  const named = username === undefined ? 'as the user default, who may do everything' : null;
  const weakLogin = password === undefined && !isKnownByCertificate ? 'without a password' : named;
  return nodes.map(({ host }) => ({ variable: 'REDIS_URL', host, isEncrypted: tls !== null, encrypt: 'use rediss:// there', weakLogin }));
}

/** As the client itself reads the URL, and PGSSLMODE. Its TLS always verifies the server. */
function postgresEndpoints({ databaseUrl }: Config['store']): readonly Endpoint[] {
  let client: pg.Client;
  try {
    client = new pg.Client(databaseUrl);
  } catch {
    // It names a file that cannot be read, or TLS that cannot be: nothing is sent.
    return [];
  }
  const host = client.host.startsWith('/') ? 'localhost' : client.host;
  const encrypt = 'let it say sslmode=verify-full';
  return [{ variable: 'DATABASE_URL', host, isEncrypted: Boolean(client.ssl), encrypt, weakLogin: null }];
}

function rightsFindings(user: WhoAmI | null): readonly Finding[] {
  if (user === null) return [];
  const subject = 'rights';
  // On this machine guest is what everybody starts with; beyond it the login is warned of.
  if (!user.tags.includes('administrator') || user.name === 'guest') return [ok(subject, `${user.name} has no more than it needs`)];
  const detail = `${user.name} is an administrator of the broker: whoever has its password may do everything there`;
  return [warning(subject, detail, `run \`rabbitmqctl set_user_tags ${user.name} monitoring\`, or name another user in MANAGEMENT_URL`)];
}

function httpFinding({ http }: Config): Finding {
  const subject = 'http';
  if (isLoopback(http.host)) return ok(subject, 'only this machine reaches it');
  if (hasUsers(http))
    return ok(
      subject,
      'for whatever names entities one needs a token or a proxy that names users; it is HTTP in clear: tokens need a proxy with TLS in front',
    );
  const detail = `HTTP_HOST is ${http.host}, and nobody needs a token: the console is off, /metrics and /status are open`;
  return warning(subject, detail, 'set READ_TOKEN or ADMIN_TOKEN, or HTTP_HOST=127.0.0.1');
}
