/**
 * Access control of the console, against three kinds of attackers:
 *
 * - Pages of other sites, which can make a browser send requests here. The token is sent in `Authorization`, which a browser
 *   never adds by itself, so a forged request has no authority (there is no cookie). In addition a request from another
 *   origin (`Sec-Fetch-Site`, `Origin`) is refused before anything is read.
 * - Host names that are rebound to this address. On loopback, where reading needs no token, `Host` must be a loopback name.
 * - Other machines. Beyond loopback everything needs the token; changes, headers and bodies need it everywhere. It is compared
 *   in constant time, and failed attempts are delayed.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIPv4 } from 'node:net';
import type { Verdict, Visitor } from '../observability/http.ts';
import type { Time } from '../time.ts';

export interface GateOptions {
  /** The address that the server listens on. */
  readonly host: string;
  readonly token: string | null;
  readonly time: Time;
}

const open: Verdict = { ok: true, admin: false };

export class Gate {
  readonly #isLoopback: boolean;
  readonly #tokenHash: Buffer | null;
  readonly #time: Time;
  readonly #attempts = new FailedAttempts();

  constructor({ host, token, time }: GateOptions) {
    this.#isLoopback = isLoopback(host);
    this.#tokenHash = token === null ? null : sha256(token);
    this.#time = time;
  }

  /** Whether a token is set; without one nothing can be changed. */
  get hasToken(): boolean {
    return this.#tokenHash !== null;
  }

  /** For the files of the page, which contain no data. */
  admit({ headers }: Visitor): Verdict {
    if (!this.#isLoopback || isLoopback(hostNameOf(headers.host ?? ''))) return open;
    return refuse(
      403,
      'this console listens on loopback: open it as http://localhost or http://127.0.0.1 (a proxy has to send such a Host)',
    );
  }

  /** For data; `change` is true for changes, and for headers and bodies. */
  judge(visitor: Visitor, change: boolean): Verdict {
    const admitted = this.admit(visitor);
    if (!admitted.ok) return admitted;
    const { headers } = visitor;
    if (comesFromElsewhere(headers)) return refuse(403, 'the request comes from a page of another origin');
    if (headers.authorization !== undefined) return this.#checkToken(visitor);
    if (!change && this.#isLoopback) return open;
    if (this.#tokenHash === null) return noToken;
    return refuse(401, 'this needs the ADMIN_TOKEN');
  }

  #checkToken({ headers, address }: Visitor): Verdict {
    if (this.#tokenHash === null) return noToken;
    const waitMs = this.#attempts.waitMs(address, this.#time.nowMs());
    if (waitMs > 0) {
      const retryAfterSeconds = Math.ceil(waitMs / 1_000);
      return { ...refuse(429, `too many wrong tokens: try again in ${retryAfterSeconds} s`), retryAfterSeconds };
    }
    const token = /^Bearer ([\x21-\x7e]+)$/i.exec(headers.authorization ?? '')?.[1] ?? '';
    // Compares hashes, because the comparison needs equal lengths and must not reveal the token's.
    if (timingSafeEqual(sha256(token), this.#tokenHash)) {
      this.#attempts.succeeded(address);
      return { ok: true, admin: true };
    }
    this.#attempts.failed(address, this.#time.nowMs());
    return refuse(401, 'that is not the ADMIN_TOKEN');
  }
}

/** Whether only this machine can reach a server on `host`. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, '');
  return name === 'localhost' || name === '::1' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'));
}

const noToken = refuse(403, 'ADMIN_TOKEN is not set, so nothing can be changed here, and headers and bodies are not shown');

function refuse(status: 401 | 403 | 429, error: string) {
  return { ok: false, status, error } as const;
}

function hostNameOf(host: string): string {
  return host.replace(/:\d*$/, '');
}

/** A request without an origin is not from a modern browser, and a forged one from an old browser has no token. */
function comesFromElsewhere(headers: IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return true;
  const { origin, host } = headers;
  return origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host?.toLowerCase().replace(/:80$|:443$/, ''));
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

const free = 5;
const firstWaitMs = 1_000;
const longestWaitMs = 60_000;
/** The failures of an address are forgotten after this time. */
const forgetAfterMs = 15 * 60_000;
const maxAddresses = 1_000;

interface Failures {
  readonly count: number;
  readonly lastMs: number;
}

/**
 * Slows down guesses of the token: after a few failures an address has to wait, twice as long each time. Memory is
 * bounded. Time is an argument.
 */
export class FailedAttempts {
  /** By address, the oldest failure first. */
  readonly #failures = new Map<string, Failures>();

  /** How long this address has to wait; 0: it may try. */
  waitMs(address: string, nowMs: number): number {
    const failures = this.#of(address, nowMs);
    if (failures === null || failures.count < free) return 0;
    const wholeMs = Math.min(longestWaitMs, firstWaitMs * 2 ** (failures.count - free));
    return Math.max(0, failures.lastMs + wholeMs - nowMs);
  }

  failed(address: string, nowMs: number): void {
    const count = (this.#of(address, nowMs)?.count ?? 0) + 1;
    this.#failures.delete(address);
    this.#failures.set(address, { count, lastMs: nowMs });
    if (this.#failures.size <= maxAddresses) return;
    for (const oldest of this.#failures.keys()) {
      this.#failures.delete(oldest);
      return;
    }
  }

  succeeded(address: string): void {
    this.#failures.delete(address);
  }

  #of(address: string, nowMs: number): Failures | null {
    const failures = this.#failures.get(address);
    return failures === undefined || nowMs - failures.lastMs > forgetAfterMs ? null : failures;
  }
}
