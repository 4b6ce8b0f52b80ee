/**
 * What a worker shows on HTTP: `/metrics`, `/healthz` (the process only), `/readyz` (with the reasons when it
 * is not) and `/status`. It only reads, so it needs no authority; it is bounded in connections, header size
 * and time, so that whoever reaches the port cannot hold the worker up.
 */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from '../errors.ts';

export interface HttpSources {
  readonly metrics: { render(): Promise<string>; readonly contentType: string };
  /** Reasons why the process should be restarted; none: healthy. */
  readonly health: () => readonly string[];
  /** Reasons why it cannot do its work now; none: ready. */
  readonly ready: () => readonly string[];
  /** Anything that JSON can hold. */
  readonly status: () => object;
}

export interface HttpServerOptions extends HttpSources {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface HttpServer {
  readonly host: string;
  /** The port that it listens on, also when 0 was asked for. */
  readonly port: number;
  /** Closes the port and every connection. */
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

const maxConnections = 64;
const limits = { maxHeaderSize: 8_192, headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 5_000 };

/** @throws ConfigError when the address cannot be listened on, saying why. */
export async function createHttpServer({ host, port, ...sources }: HttpServerOptions): Promise<HttpServer> {
  const server = createServer(limits, (request, response) => void answer(sources, request, response));
  server.maxConnections = maxConnections;
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

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new ConfigError([listenProblem(host, port, error)], { cause: error }));
    });
    server.listen(port, host, () => {
      server.removeAllListeners('error');
      // Out of file descriptors, for one: the connection is lost, the worker is not.
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

async function answer(sources: HttpSources, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { status, contentType, body } = await route(sources, request).catch(() => internalError);
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

const internalError: Answer = json(500, { error: 'the answer could not be made' });

async function route(sources: HttpSources, request: IncomingMessage): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return json(405, { error: 'only GET and HEAD' });
  switch (request.url?.split('?', 1)[0]) {
    case '/metrics':
      return { status: 200, contentType: sources.metrics.contentType, body: await sources.metrics.render() };
    case '/healthz':
      return verdict('healthy', sources.health());
    case '/readyz':
      return verdict('ready', sources.ready());
    case '/status':
      return json(200, sources.status());
    default:
      return json(404, { error: 'there are /metrics, /healthz, /readyz and /status' });
  }
}

function verdict(name: string, reasons: readonly string[]): Answer {
  return json(reasons.length === 0 ? 200 : 503, { [name]: reasons.length === 0, reasons });
}

function json(status: number, value: object): Answer {
  return { status, contentType: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n` };
}
