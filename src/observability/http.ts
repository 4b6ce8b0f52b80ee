/**
 * The HTTP server of workers (health, metrics, status) and of the console. A server has one table of routes; a handler
 * returns an answer as data, and only `write` sends it, always with the same security headers. An error is answered with
 * a sentence, never with a stack. Connections, header size and time are bounded, so that clients block neither the
 * process nor each other.
 *
 * Why no router of a library: the search through the table takes ten lines, and a library knows neither the guards nor these rows.
 */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { HttpConfig, Role } from '../config/config.ts';
import { ConfigError, InorderError, messageOf } from '../errors.ts';
import { isJsonObject, readJsonBody } from '../events/json-body.ts';
import type { Gate } from './gate.ts';
import type { Metrics } from './metrics.ts';
import { withoutEntities, withoutParticulars, type WorkerStatus } from './worker-status.ts';

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Buffer;
  /** In addition to those of every answer. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** The sender of a request, for guards. */
export interface Visitor {
  readonly headers: IncomingHttpHeaders;
  /** The address of the sender. */
  readonly address: string;
}

export interface User {
  /** Null: whoever has ADMIN_TOKEN or READ_TOKEN, or reads on loopback. */
  readonly name: string | null;
  readonly role: Role;
}

/** `user` is null for nobody in particular, where anybody may ask. */
export type Verdict =
  | { readonly ok: true; readonly user: User | null }
  | { readonly ok: false; readonly status: 401 | 403; readonly error: string };

/** Whether the sender may make the request. */
export type Guard = (visitor: Visitor, query: URLSearchParams) => Verdict | Promise<Verdict>;

export interface HttpRequest {
  /** The value of the path's parameter. */
  readonly id: string;
  readonly query: URLSearchParams;
  /** The body of a POST, which must be a JSON object. */
  readonly body: Readonly<Record<string, unknown>>;
  readonly user: User | null;
  readonly address: string;
}

export interface Route {
  readonly method: 'GET' | 'GET, HEAD' | 'POST';
  /** `:id` stands for one segment. */
  readonly path: string;
  readonly guard: Guard;
  readonly answer: (request: HttpRequest) => Answer | Promise<Answer>;
}

export const everybody: Guard = () => ({ ok: true, user: null });

/** The health and status of a worker. */
export interface WorkerSource {
  /** Why it is not ready; empty if it is. */
  notReady(): readonly string[];
  status(): WorkerStatus;
}

/** `gate` guards what tells more than how the process is: beyond loopback only users see entities. */
export function workerRoutes(
  metrics: Pick<Metrics, 'render' | 'contentType'>,
  worker: WorkerSource,
  gate: Pick<Gate, 'admit' | 'anybody'>,
): readonly Route[] {
  const get = (path: string, guard: Guard, answer: Route['answer']): Route => ({ method: 'GET, HEAD', path, guard, answer });
  // A probe is answered whoever asks; who may not know more is told less.
  const probe: Guard = async (visitor, query) => {
    const verdict = await gate.anybody(visitor, query);
    return verdict.ok ? verdict : everybody(visitor, query);
  };
  return [
    get('/metrics', gate.admit, async () => ({ status: 200, contentType: metrics.contentType, body: await metrics.render() })),
    // The process answers, so it is alive. /readyz shows other problems, which a restart would not solve.
    get('/healthz', everybody, () => json(200, { healthy: true, reasons: [] })),
    get('/readyz', probe, ({ user }) => {
      const reasons = user === null ? worker.notReady().map(withoutParticulars) : worker.notReady();
      return json(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
    }),
    get('/status', gate.anybody, ({ user }) => json(200, user === null ? withoutEntities(worker.status()) : worker.status())),
  ];
}

export interface HttpServer {
  readonly host: string;
  /** The port that it listens on, also when 0 was asked for. */
  readonly port: number;
  /** Closes the port and every connection. */
  close(): Promise<void>;
}

const limits = {
  maxHeaderSize: 8_192,
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  // Node's own is 30 s, and it closes nothing before it has checked.
  connectionsCheckingInterval: 500,
};
/** A connection on which nothing happens is closed, also while its answer is being taken: longer than any answer takes to make. */
const idleTimeoutMs = 30_000;
const maxBodyBytes = 65_536;

/**
 * The first matching route answers. Port 0: any free one. `elsewhere` says who may know that there is no such path.
 * @throws ConfigError when it cannot listen at the address, with the reason.
 */
export async function serveHttp(
  { host, port }: Pick<HttpConfig, 'host' | 'port'>,
  routes: readonly Route[],
  elsewhere: Guard = everybody,
): Promise<HttpServer> {
  const table = routes.map((route) => ({
    ...route,
    pattern: new RegExp(`^${route.path.replaceAll('.', '\\.').replace(':id', '([^/]+)')}$`),
  }));
  const server = createServer(limits, (request, response) => {
    const { socket } = request;
    const answered = answerTo(request, { table, elsewhere }, () => connections.answering(socket)).catch(failure);
    const finish = (answer: Answer) => {
      connections.answered(socket);
      write(answer, request, response);
    };
    // No answer to a browser that has closed the connection.
    void answered.then(finish).catch(() => response.destroy());
  });
  server.timeout = idleTimeoutMs;
  const connections = new Connections(server);
  await listen(server, host, port);
  return {
    host,
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function json(status: number, value: object, headers: Answer['headers'] = {}): Answer {
  return { status, contentType: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n`, headers };
}

interface Paths {
  readonly table: readonly (Route & { readonly pattern: RegExp })[];
  readonly elsewhere: Guard;
}

/** `onRead` is called when nothing more of the request is waited for. */
async function answerTo(request: IncomingMessage, { table, elsewhere }: Paths, onRead: () => void): Promise<Answer> {
  const { method = '', url = '', headers, socket } = request;
  const [path = '', search] = url.split('?', 2);
  const here = table.filter(({ pattern }) => pattern.test(path));
  const route = here.find((one) => one.method.split(', ').includes(method));
  const query = new URLSearchParams(search);
  const address = socket.remoteAddress ?? 'unknown';
  const verdict = await ((route ?? here[0])?.guard ?? elsewhere)({ headers, address }, query);
  if (!verdict.ok) return json(verdict.status, { error: verdict.error });
  if (here.length === 0) return json(404, { error: `there is nothing here: there are ${topPaths(table)}` });
  const allow = here.map((one) => one.method).join(', ');
  if (route === undefined) return json(405, { error: `only ${allow}` }, { allow });
  const body = method === 'POST' ? await readJsonObject(request) : {};
  onRead();
  const id = route.pattern.exec(path)?.[1] ?? '';
  return route.answer({ id, query, body, user: verdict.user, address });
}

function topPaths(routes: readonly Route[]): string {
  return routes
    .map(({ path }) => path)
    .filter((path) => path.lastIndexOf('/') === 0)
    .join(', ');
}

function failure(error: unknown): Answer {
  if (error instanceof ConfigError) return json(400, { error: error.problems.join('; ') });
  if (error instanceof InorderError) return json(503, { error: messageOf(error) });
  return json(500, { error: 'the answer could not be made' });
}

/** Scripts, styles and connections only from this server, no frames, and no text that becomes markup through the DOM. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** Headers that keep browsers from guessing types or caching answers. */
const protection = {
  'content-security-policy': policy,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
};

function write({ status, contentType, body, headers }: Answer, { method }: IncomingMessage, response: ServerResponse): void {
  response.writeHead(status, { ...protection, 'content-type': contentType, 'content-length': Buffer.byteLength(body), ...headers });
  response.end(method === 'HEAD' ? undefined : body);
}

/** The JSON object in the body. @throws ConfigError when it is none, or too large. */
async function readJsonObject(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  // A form on another site can send other content types without a preflight request.
  if (!/^application\/json(;|$)/.test(request.headers['content-type'] ?? ''))
    throw new ConfigError(['the content type must be application/json']);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new ConfigError([`the body is over ${maxBodyBytes} bytes`]);
    chunks.push(chunk);
  }
  const read = readJsonBody(Buffer.concat(chunks));
  if (!read.ok) throw new ConfigError([read.detail]);
  if (!isJsonObject(read.value)) throw new ConfigError(['the body must be a JSON object']);
  return read.value;
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new ConfigError([listenProblem(host, port, error)], { cause: error }));
    });
    server.listen(port, host, () => {
      server.removeAllListeners('error');
      // For instance out of file descriptors: the connection is lost, the worker continues.
      server.on('error', () => undefined);
      resolve();
    });
  });
}

function listenProblem(host: string, port: number, error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return `HTTP_PORT is ${port}: another process on ${host} uses it; choose another, or 0 for any free one`;
    case 'EACCES':
      return `HTTP_PORT is ${port}: this user may not listen on it; choose one above 1023`;
    default:
      return `HTTP_HOST is ${host}: it is not an address of this machine (${error.code ?? error.message})`;
  }
}

/** Of visitors at one time. */
export const mostInAll = 256;
/** Less than all, for health and metrics come from other addresses than the console's visitors. */
const mostOfAddress = 128;

/**
 * The connections of a server: at most so many in all and of one address. A new one finds room even so: the one closes that has
 * waited longest for its client, which sends its request or takes its answer slowly, or asks nothing. One whose request is being
 * answered stays. So clients that only hold connections keep nobody out.
 */
class Connections {
  readonly #open = new Set<Socket>();
  /** Those that wait for their client, the longest wait first. */
  readonly #waiting = new Set<Socket>();

  constructor(server: Server) {
    server.on('connection', (socket) => this.#opened(socket));
  }

  /** The request is there: it is the server's turn. */
  answering(socket: Socket): void {
    this.#waiting.delete(socket);
  }

  /** The answer is there: it is the client's turn. */
  answered(socket: Socket): void {
    if (this.#open.has(socket)) this.#waiting.add(socket);
  }

  #opened(socket: Socket): void {
    const near = [...this.#open].filter(({ remoteAddress }) => remoteAddress === socket.remoteAddress);
    const rivals = near.length >= mostOfAddress ? new Set(near) : this.#open.size >= mostInAll ? this.#open : null;
    if (rivals !== null) {
      const slowest = [...this.#waiting].find((one) => rivals.has(one)) ?? socket;
      this.#close(slowest);
      if (slowest === socket) return;
    }
    this.#open.add(socket);
    this.#waiting.add(socket);
    socket.once('close', () => this.#close(socket));
  }

  #close(socket: Socket): void {
    socket.destroy();
    this.#open.delete(socket);
    this.#waiting.delete(socket);
  }
}
