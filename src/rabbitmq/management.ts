/**
 * The part of RabbitMQ's management API that shows what AMQP does not. Read-only. Every answer is
 * an outcome: an API that is missing, refuses the login or returns something else is a reason, not an exception.
 */
import { type Time, timeLimit } from '../time.ts';

export interface ManagementOptions {
  /** `http://user:password@host:15672`, also with a path prefix. */
  readonly url: string;
  readonly virtualHost: string;
  readonly time: Time;
}

export type Answer<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string };

/** Only fields that every version from 3.8 on has. */
export interface Overview {
  readonly rabbitmq_version: string;
  readonly exchange_types: readonly { readonly name: string }[];
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
}

/** For each request. */
const timeoutMs = 5_000;
const managementPort = 15_672;

export class ManagementClient {
  readonly #base: string;
  readonly #authorization: string;
  readonly #virtualHost: string;
  readonly #time: Time;
  /** How far the broker's clock was ahead of ours at the last answer, in milliseconds; null if unknown. */
  clockOffsetMs: number | null = null;

  constructor({ url, virtualHost, time }: ManagementOptions) {
    const { username, password, origin, pathname } = new URL(url);
    this.#base = `${origin}${pathname.replace(/\/+$/, '')}/api`;
    const login = `${decodeURIComponent(username || 'guest')}:${decodeURIComponent(password || 'guest')}`;
    this.#authorization = `Basic ${Buffer.from(login).toString('base64')}`;
    this.#virtualHost = encodeURIComponent(virtualHost);
    this.#time = time;
  }

  overview(): Promise<Answer<Overview>> {
    return this.#get<Overview>('/overview', (value) => 'rabbitmq_version' in value && 'exchange_types' in value);
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
    return this.#list('/nodes?columns=name,running,mem_alarm,disk_free_alarm,partitions');
  }

  #list<T>(path: string): Promise<Answer<readonly T[]>> {
    return this.#get<readonly T[]>(path, Array.isArray);
  }

  async #get<T>(path: string, isExpected: (value: object) => boolean): Promise<Answer<T>> {
    try {
      const signal = timeLimit(this.#time, timeoutMs);
      const response = await fetch(`${this.#base}${path}`, { headers: { authorization: this.#authorization }, signal, redirect: 'error' });
      this.#readClock(response.headers.get('date'));
      if (response.status === 401)
        return { ok: false, reason: 'it refuses the user name or the password, or the user lacks the tag `monitoring`' };
      if (!response.ok) return { ok: false, reason: `it answers ${path.replace(/\?.*/, '')} with status ${response.status}` };
      const value: unknown = await response.json();
      if (typeof value !== 'object' || value === null || !isExpected(value))
        return { ok: false, reason: 'what answers there is no management API' };
      return { ok: true, value: value as T };
    } catch (error) {
      return { ok: false, reason: whyNot(error) };
    }
  }

  /** The header has a resolution of a second, and is half a second late on average. */
  #readClock(date: string | null): void {
    const theirMs = Date.parse(date ?? '');
    if (!Number.isNaN(theirMs)) this.clockOffsetMs = theirMs + 500 - this.#time.wallMs();
  }
}

/** The usual address of a broker's management API: the same host and login, port 15672. */
export function managementUrlOf(amqpUrl: string): string {
  const { username, password, hostname } = new URL(amqpUrl);
  const login = username === '' && password === '' ? '' : `${username}:${password}@`;
  return `http://${login}${hostname}:${managementPort}`;
}

/** The virtual host of an AMQP URL; `/` by default. */
export function virtualHostOf(url: unknown): string {
  const path = parsedUrl(url)?.pathname.slice(1) ?? '';
  return path === '' ? '/' : decodeURIComponent(path);
}

export function parsedUrl(url: unknown): URL | null {
  return typeof url === 'string' && URL.canParse(url) ? new URL(url) : null;
}

function whyNot(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return 'it does not answer';
  if (error instanceof SyntaxError) return 'what answers there is no management API';
  // The message of `fetch` itself is always the same.
  const cause = error.cause instanceof Error ? error.cause : error;
  return `it cannot be reached (${'code' in cause ? String(cause.code) : cause.message})`;
}
