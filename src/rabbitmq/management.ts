/**
 * The part of RabbitMQ's management API that shows what AMQP does not. Read-only. Every answer is
 * an outcome: an API that is missing, refuses the login or returns something else is a reason, not an exception.
 */
import http from 'node:http';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { messageOf } from '../errors.ts';
import { type Time, timeLimit } from '../time.ts';
import { type TlsFiles, tlsFailure, tlsOptions } from '../tls.ts';
import type { BrokerAddress } from './connection.ts';

/** A broker whose management API may be asked. */
export interface ManagedBroker extends BrokerAddress {
  /** `http://user:password@host:15672`, or with https and a path prefix. Null: the usual port of the first host, where that is safe. */
  readonly managementUrl: string | null;
}

export type Answer<T> = { readonly ok: true; readonly value: T } | NoAnswer;

export interface NoAnswer {
  readonly ok: false;
  readonly reason: string;
  /** What to do about this reason; null: what one does where the API cannot be asked. */
  readonly remedy: string | null;
}

/** Only fields that every version from 3.8 on has. */
export interface Overview {
  readonly rabbitmq_version: string;
  readonly exchange_types: readonly { readonly name: string }[];
  /** Where the nodes listen; absent for users without the tag `monitoring`. */
  readonly listeners?: readonly Listener[];
}

export interface Listener {
  /** `amqp` and `http` are without TLS. */
  readonly protocol: string;
  readonly ip_address: string;
  readonly port: number;
  /** `ip`: where the management API really listens; its `ip_address` is always `::`. */
  readonly socket_opts?: { readonly ip?: string };
}

export interface ExchangeInfo {
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly internal: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface QueueInfo {
  readonly name: string;
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly exclusive: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
  /** Absent while the broker has not counted yet. */
  readonly messages?: number;
  readonly messages_unacknowledged?: number;
}

export interface BindingInfo {
  /** Empty for the default exchange. */
  readonly source: string;
  readonly destination: string;
  readonly destination_type: 'queue' | 'exchange';
  readonly routing_key: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

export interface PolicyInfo {
  readonly name: string;
  readonly pattern: string;
  readonly 'apply-to': string;
  readonly priority: number;
  readonly definition: Readonly<Record<string, unknown>>;
}

export interface ConsumerInfo {
  readonly queue: { readonly name: string };
  /** `single_active` for the active consumer of a queue with a single active one; absent before 3.8. */
  readonly activity_status?: string;
  readonly channel_details: { readonly peer_host: string; readonly peer_port: number };
}

/** A node of the cluster; only the name is known if it is down. */
export interface NodeInfo {
  readonly name: string;
  readonly running: boolean;
  readonly mem_alarm?: boolean;
  readonly disk_free_alarm?: boolean;
  /** Nodes that it cannot see; absent from 4.3 on. */
  readonly partitions?: readonly string[];
  /** File descriptors: in use, and how many it may have. */
  readonly fd_used?: number;
  readonly fd_total?: number;
}

/** The user whose login is used. */
export interface WhoAmI {
  readonly name: string;
  /** Separated by commas before 3.9. */
  readonly tags: string | readonly string[];
}

/** For each request. */
const timeoutMs = 5_000;

export class ManagementClient {
  readonly #base: string;
  readonly #authorization: string;
  readonly #virtualHost: string;
  readonly #tls: Partial<TlsFiles>;
  readonly #time: Time;
  /** How far the broker's clock was ahead of ours at the last answer, in milliseconds; null if unknown. */
  clockOffsetMs: number | null = null;

  /** `url`: with credentials. */
  constructor(url: string, { urls, tls = {} }: BrokerAddress, time: Time) {
    const { username, password, origin, pathname } = new URL(url);
    this.#base = `${origin}${pathname.replace(/\/+$/, '')}/api`;
    const login = `${decodeURIComponent(username || 'guest')}:${decodeURIComponent(password || 'guest')}`;
    this.#authorization = `Basic ${Buffer.from(login).toString('base64')}`;
    this.#virtualHost = encodeURIComponent(virtualHostOf(urls[0]));
    this.#tls = tls;
    this.#time = time;
  }

  overview(): Promise<Answer<Overview>> {
    return this.#get<Overview>('/overview', (value) => 'rabbitmq_version' in value && 'exchange_types' in value);
  }

  whoAmI(): Promise<Answer<WhoAmI>> {
    return this.#get<WhoAmI>('/whoami', (value) => 'name' in value && 'tags' in value);
  }

  exchanges(): Promise<Answer<readonly ExchangeInfo[]>> {
    return this.#list(`/exchanges/${this.#virtualHost}?columns=name,type,durable,auto_delete,internal,arguments`);
  }

  queues(): Promise<Answer<readonly QueueInfo[]>> {
    return this.#list(`/queues/${this.#virtualHost}?columns=name,durable,auto_delete,exclusive,arguments,messages,messages_unacknowledged`);
  }

  consumers(): Promise<Answer<readonly ConsumerInfo[]>> {
    return this.#list(`/consumers/${this.#virtualHost}`);
  }

  bindings(): Promise<Answer<readonly BindingInfo[]>> {
    return this.#list(`/bindings/${this.#virtualHost}`);
  }

  policies(): Promise<Answer<readonly PolicyInfo[]>> {
    return this.#list(`/policies/${this.#virtualHost}`);
  }

  operatorPolicies(): Promise<Answer<readonly PolicyInfo[]>> {
    return this.#list(`/operator-policies/${this.#virtualHost}`);
  }

  nodes(): Promise<Answer<readonly NodeInfo[]>> {
    return this.#list('/nodes?columns=name,running,mem_alarm,disk_free_alarm,partitions,fd_used,fd_total');
  }

  #list<T>(path: string): Promise<Answer<readonly T[]>> {
    return this.#get<readonly T[]>(path, Array.isArray);
  }

  async #get<T>(path: string, isExpected: (value: object) => boolean): Promise<Answer<T>> {
    try {
      const { status, date, body } = await this.#ask(`${this.#base}${path}`);
      this.#readClock(date);
      if (status === 401)
        return noAnswer(
          'it refuses the user name or the password, or the user lacks the tag `monitoring`',
          'correct the login in MANAGEMENT_URL, or give its user the tag `monitoring`',
        );
      if (status !== 200) return noAnswer(`it answers ${path.replace(/\?.*/, '')} with status ${status}`);
      const value: unknown = JSON.parse(body);
      if (typeof value !== 'object' || value === null || !isExpected(value)) return noAnswer(somethingElse);
      return { ok: true, value: value as T };
    } catch (error) {
      return whyNot(error);
    }
  }

  /** Follows no redirection, which would take the password elsewhere. */
  #ask(url: string): Promise<{ readonly status: number | undefined; readonly date: string | undefined; readonly body: string }> {
    const [client, tls] = url.startsWith('https:') ? [https, tlsOptions(this.#tls, () => {})] : [http, {}];
    const options = { ...tls, headers: { authorization: this.#authorization }, signal: timeLimit(this.#time, timeoutMs), agent: false };
    return new Promise((resolve, reject) => {
      const request = client.get(url, options, (response) => {
        const { statusCode: status, headers } = response;
        text(response).then((body) => resolve({ status, date: headers.date, body }), reject);
      });
      request.on('error', reject);
    });
  }

  /** The header has a resolution of a second, and is half a second late on average. */
  #readClock(date: string | undefined): void {
    const theirMs = Date.parse(date ?? '');
    if (!Number.isNaN(theirMs)) this.clockOffsetMs = theirMs + 500 - this.#time.wallMs();
  }
}

/**
 * The management API of a broker. At its usual port the login of AMQP is used, which goes out in clear only where AMQP itself sends it
 * so. Null: there is no URL, and no login to use.
 */
export function managementOf(broker: ManagedBroker, time: Time): ManagementClient | null {
  const url = broker.managementUrl ?? usualUrl(broker);
  return url === null ? null : new ManagementClient(url, broker, time);
}

function usualUrl({ urls, auth }: BrokerAddress): string | null {
  if (urls[0] === undefined || auth === 'external') return null;
  const { protocol, username, password, hostname } = new URL(urls[0]);
  const login = username === '' && password === '' ? '' : `${username}:${password}@`;
  return protocol === 'amqps:' ? `https://${login}${hostname}:15671` : `http://${login}${hostname}:15672`;
}

/** The virtual host of an AMQP URL; `/` by default. */
export function virtualHostOf(url: unknown): string {
  const path = parsedUrl(url)?.pathname.slice(1) ?? '';
  return path === '' ? '/' : decodeURIComponent(path);
}

export function parsedUrl(url: unknown): URL | null {
  return typeof url === 'string' && URL.canParse(url) ? new URL(url) : null;
}

const somethingElse = 'what answers there is no management API';

function noAnswer(reason: string, remedy: string | null = null): NoAnswer {
  return { ok: false, reason, remedy };
}

function whyNot(error: unknown): NoAnswer {
  if (error instanceof SyntaxError) return noAnswer(somethingElse);
  if (error instanceof Error && error.cause instanceof Error && error.cause.name === 'TimeoutError') return noAnswer('it does not answer');
  const tls = tlsFailure(error, 'AMQP_URL');
  if (tls !== null) return noAnswer(`it cannot be reached: ${tls.meaning}`, tls.remedy);
  const code = error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
  return noAnswer(`it cannot be reached (${code})`);
}
