/**
 * Who may ask a worker or a console for what, against three kinds of attackers:
 *
 * - Pages of other sites, which can make a browser send requests here. The token is sent in `Authorization`, which a browser
 *   never adds by itself, so a forged request has no authority (there is no cookie). In addition a request from another
 *   origin (`Sec-Fetch-Site`, `Origin`) is refused before anything is read; behind a proxy that names the user nothing else would.
 * - Host names that are rebound to this address. On loopback, where reading needs no token, `Host` must be a loopback name.
 * - Other machines. Beyond loopback everything with data needs a user; changes, headers and bodies need an operator everywhere.
 *   A token is compared in constant time, and the answer to a wrong one is delayed. The right one is never kept waiting: whoever
 *   guesses may have the address of everybody else, behind a proxy.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import type { HttpConfig, NamedToken, Role } from '../config/config.ts';
import { TokensFile, type TokensLog } from '../config/tokens-file.ts';
import { sleep, type Time } from '../time.ts';
import type { Guard, User, Verdict, Visitor } from './http.ts';

const reader: User = { name: null, role: 'viewer' };

export class Gate {
  readonly #isLoopback: boolean;
  readonly #http: Pick<HttpConfig, 'adminToken' | 'readToken'>;
  readonly #file: Pick<TokensFile, 'read'>;
  #named: readonly NamedToken[] | null = null;
  #users: readonly (User & { readonly hash: Buffer })[] = [];
  readonly #proxy: HttpConfig['proxy'];
  readonly #proxies = new BlockList();
  readonly #time: Time;
  readonly #failures = new FailedAttempts();
  /** For what shows no data: the files of the page, `/metrics`. */
  readonly admit: Guard = ({ headers }) => this.#hostVerdict(headers);
  /** For what shows those who are no user less. */
  readonly anybody: Guard = (visitor) => this.#judge(visitor, null);
  readonly viewers: Guard = (visitor) => this.#judge(visitor, 'viewer');
  readonly operators: Guard = (visitor) => this.#judge(visitor, 'operator');

  /** `log`: for changes of TOKENS_FILE, which is read again within a second when it has changed. */
  constructor(http: Omit<HttpConfig, 'port'>, time: Time, log?: TokensLog) {
    const { host, tokens, tokensFile, proxy } = http;
    this.#isLoopback = isLoopback(host);
    this.#http = http;
    this.#file = tokensFile === null ? { read: () => tokens } : new TokensFile(tokensFile, http, time, log);
    this.#proxy = proxy;
    for (const range of proxy?.addresses ?? []) addRange(this.#proxies, range);
    this.#time = time;
  }

  get #tokens() {
    const named = this.#file.read();
    if (named !== this.#named) {
      const { adminToken, readToken } = this.#http;
      this.#named = named;
      this.#users = [
        ...(adminToken === null ? [] : [{ name: null, role: 'operator', hash: sha256(adminToken) } as const]),
        ...(readToken === null ? [] : [{ ...reader, hash: sha256(readToken) }]),
        ...named.map(({ name, role, hash }) => ({ name, role, hash: Buffer.from(hash, 'hex') })),
      ];
    }
    return this.#users;
  }

  /** Whether there is a token that changes anything. */
  get hasOperatorToken(): boolean {
    return this.#tokens.some(({ role }) => role === 'operator');
  }

  #judge(visitor: Visitor, needed: Role | null): Verdict | Promise<Verdict> {
    const { headers, address } = visitor;
    const admitted = this.#hostVerdict(headers);
    if (!admitted.ok) return admitted;
    if (comesFromElsewhere(headers)) return refuse(403, 'the request comes from a page of another origin');
    const named = this.#nameByProxy(visitor);
    if (named === 'unclear')
      return refuse(403, `${this.#proxy?.header} does not name one user in UTF-8: the proxy must replace what a client sends`);
    const user = this.#holderOf(headers.authorization) ?? named;
    if (user === null && headers.authorization !== undefined && this.#tokens.length > 0) return this.#wrongToken(address);
    const known = user ?? (this.#isLoopback ? reader : null);
    if (needed === null || known?.role === 'operator' || (known !== null && needed === 'viewer')) return { ok: true, user: known };
    if (user !== null) return refuse(403, `${user.name ?? 'the READ_TOKEN'} may only read: this needs an operator`);
    const opens = needed === 'viewer' ? this.#tokens.length > 0 : this.hasOperatorToken;
    if (!opens && this.#proxy === null) return nobodyChanges;
    return refuse(401, needed === 'viewer' ? 'this needs a token' : 'this needs the token of an operator');
  }

  #hostVerdict(headers: IncomingHttpHeaders): Verdict {
    if (!this.#isLoopback || isLoopback(hostNameOf(headers.host ?? ''))) return { ok: true, user: null };
    return refuse(
      403,
      'this server listens on loopback: open it as http://localhost or http://127.0.0.1 (a proxy has to send such a Host)',
    );
  }

  #holderOf(authorization: string | undefined): User | null {
    const token = /^Bearer ([\x21-\x7e]+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined) return null;
    // Compares hashes, because the comparison needs equal lengths and must not reveal the token's.
    const hash = sha256(token);
    const [holder = null] = this.#tokens.filter((one) => timingSafeEqual(hash, one.hash));
    return holder;
  }

  #nameByProxy({ headers, address }: Visitor): User | 'unclear' | null {
    if (this.#proxy === null || !this.#proxies.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')) return null;
    const { header, operators } = this.#proxy;
    // Node reads headers as Latin-1.
    const name = Buffer.from(String(headers[header.toLowerCase()] ?? ''), 'latin1')
      .toString('utf8')
      .trim();
    if (name === '') return null;
    // Node joins repeated headers with commas; U+FFFD stands for what is no UTF-8.
    return /^[^,\p{C}\ufffd]{1,100}$/u.test(name) ? { name, role: operators.includes(name) ? 'operator' : 'viewer' } : 'unclear';
  }

  async #wrongToken(address: string): Promise<Verdict> {
    const delayMs = this.#failures.delayMs(address, this.#time.nowMs());
    if (delayMs > 0) await sleep(this.#time, delayMs, undefined, { unref: true });
    return refuse(401, 'that is not a token of this server');
  }
}

/** Whether anybody may use the console of a server that other machines can reach. */
export function hasUsers({ adminToken, readToken, tokens, proxy }: HttpConfig): boolean {
  return adminToken !== null || readToken !== null || tokens.length > 0 || proxy !== null;
}

/** Whether only this machine can reach a server on `host`. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, '');
  return name === 'localhost' || name === '::1' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'));
}

const nobodyChanges = refuse(403, 'ADMIN_TOKEN is not set, so nothing can be changed here, and headers and bodies are not shown');

function refuse(status: 401 | 403, error: string) {
  return { ok: false, status, error } as const;
}

function hostNameOf(host: string): string {
  return host.replace(/:\d*$/, '');
}

/**
 * A request without an origin is not from a modern browser, and a forged one from an old browser has no token. Where the browser itself
 * says so (over HTTPS and on loopback), `Host` does not matter: a proxy may have changed it.
 */
function comesFromElsewhere(headers: IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  const { origin, host } = headers;
  return origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host?.toLowerCase().replace(/:80$|:443$/, ''));
}

/** An address, or a range such as `10.0.0.0/8`. */
function addRange(list: BlockList, range: string): void {
  const [address = '', bits] = range.split('/');
  const family = isIPv6(address) ? 'ipv6' : 'ipv4';
  if (bits === undefined) list.addAddress(address, family);
  else list.addSubnet(address, Number(bits), family);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** So many wrong tokens of an address are answered at once. */
const free = 5;
const firstDelayMs = 500;
/** Who shows a token has to wait longer than this to see that it is refused. */
export const longestDelayMs = 5_000;
/** The failures of an address are forgotten after this time. */
const forgetAfterMs = 15 * 60_000;
const maxAddresses = 1_000;

interface Failures {
  readonly count: number;
  readonly lastMs: number;
}

/** Slows down guesses of a token: after a few, an address waits for each answer, twice as long each time. Memory is bounded. */
export class FailedAttempts {
  /** By address, the oldest failure first. */
  readonly #failures = new Map<string, Failures>();

  /** Counts a wrong token, and says how long its answer is to be delayed. */
  delayMs(address: string, nowMs: number): number {
    const before = this.#failures.get(address);
    const count = before === undefined || nowMs - before.lastMs > forgetAfterMs ? 1 : before.count + 1;
    this.#failures.delete(address);
    this.#failures.set(address, { count, lastMs: nowMs });
    const [oldest = address] = this.#failures.keys();
    if (this.#failures.size > maxAddresses) this.#failures.delete(oldest);
    return count <= free ? 0 : Math.min(longestDelayMs, firstDelayMs * 2 ** (count - free - 1));
  }
}
