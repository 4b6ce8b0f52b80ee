/**
 * What a worker shows on HTTP: `/metrics`, `/healthz` (the process only), `/readyz` (with the reasons when it
 * is not) and `/status`. It only reads, so it needs no authority. Four fixed paths need no router.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type HttpServer, listenHttp } from './http-server.ts';

export interface HttpSources {
  readonly metrics: { render(): Promise<string>; readonly contentType: string };
  /** Reasons why the process should be restarted; none: healthy. */
  readonly health: () => readonly string[];
  /** Reasons why it cannot do its work now; none: ready. */
  readonly ready: () => readonly string[];
  /** Anything that JSON can hold. */
  readonly status: () => object;
  /** What else is served on the port: true when the request is its own, and then it answers. */
  readonly further?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export interface HttpServerOptions extends HttpSources {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** @throws ConfigError when the address cannot be listened on, saying why. */
export function createHttpServer({ host, port, ...sources }: HttpServerOptions): Promise<HttpServer> {
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    if (!sources.further?.(request, response)) void answer(sources, request, response);
  };
  return listenHttp({ host, port, handle });
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
