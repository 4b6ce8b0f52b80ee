/**
 * The console: a page and its API on somebody else's HTTP server. It answers at `/` and below `/console/`, leaves every
 * other path alone, and puts everything through the gate first. What fails is answered in a sentence, never with a stack.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Config } from '../config/config.ts';
import { ConfigError, InorderError } from '../errors.ts';
import type { Log } from '../observability/log.ts';
import { redactUrls } from '../redaction.ts';
import { systemTime, type Time } from '../time.ts';
import { type Answer, json, readJsonObject, send } from './answer.ts';
import { apiRoutes, type Route } from './api.ts';
import { DeadLetterWork } from './change-work.ts';
import { Changes } from './changes.ts';
import { Gate, isLoopback, type Visitor } from './gate.ts';
import type { AskedWorker } from './overview.ts';
import { loadPageFiles } from './page-files.ts';
import { Sources } from './sources.ts';
import { StreamView } from './stream-view.ts';

export interface ConsoleOptions {
  readonly config: Config;
  /** The workers as they are now. */
  readonly workers: () => Promise<readonly AskedWorker[]>;
  readonly log: Log;
  /** Default: that of the computer. */
  readonly time?: Time;
}

export interface Console {
  /** True when the request is the console's, and then it answers it. */
  handle(request: IncomingMessage, response: ServerResponse): boolean;
  /** Stops changes after what is under way, and closes the console's connections. */
  close(): Promise<void>;
}

/** Null: it may be served. Otherwise why not: others than this machine could reach it, and nothing would keep them out. */
export function consoleRefusal({ http }: Pick<Config, 'http'>): string | null {
  if (http.adminToken !== null || isLoopback(http.host)) return null;
  return `HTTP_HOST is ${http.host}, which others can reach: the console needs ADMIN_TOKEN there, or HTTP_HOST=127.0.0.1`;
}

/** @throws ConfigError where `consoleRefusal` says why. */
export function createConsole({ config, workers, log, time = systemTime }: ConsoleOptions): Console {
  const refusal = consoleRefusal(config);
  if (refusal !== null) throw new ConfigError([refusal]);
  const { http } = config;
  const sources = new Sources(config, log, time);
  const view = new StreamView({ config, sources, workers });
  const catalogue = () => view.catalogue.catalogue;
  const work = new DeadLetterWork({ letters: () => sources.letters, catalogue, onChanged: () => view.outdate() });
  const changes = new Changes(work, time);
  const gate = new Gate({ host: http.host, token: http.adminToken, time });
  const site = new Site(gate, apiRoutes({ view, changes, hasToken: gate.hasToken }));
  return {
    handle: (request, response) => site.handle(request, response),
    async close() {
      await changes.close();
      await sources.close();
    },
  };
}

const apiPrefix = '/console/api/';

export class Site {
  readonly #gate: Gate;
  readonly #routes: readonly Route[];
  readonly #files = loadPageFiles();

  constructor(gate: Gate, routes: readonly Route[]) {
    this.#gate = gate;
    this.#routes = routes;
  }

  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const [path = '', query = ''] = (request.url ?? '').split('?', 2);
    if (path !== '/' && path !== '/console' && !path.startsWith('/console/')) return false;
    const visitor = { headers: request.headers, address: request.socket.remoteAddress ?? 'unknown' };
    const answered = path.startsWith(apiPrefix)
      ? this.#api(request, visitor, path.slice(apiPrefix.length), new URLSearchParams(query)).catch(failure)
      : Promise.resolve(this.#file(request, visitor, path));
    // A browser that has gone away is told nothing.
    void answered.then((answer) => send(request, response, answer)).catch(() => response.destroy());
    return true;
  }

  #file({ method }: IncomingMessage, visitor: Visitor, path: string): Answer {
    const verdict = this.#gate.admit(visitor);
    if (!verdict.ok) return json(verdict.status, { error: verdict.error });
    if (method !== 'GET' && method !== 'HEAD') return json(405, { error: 'only GET and HEAD' }, { allow: 'GET, HEAD' });
    const file = this.#files.get(path === '/' ? 'index.html' : path.slice('/console/'.length));
    return file === undefined ? json(404, { error: 'the console has no such file' }) : { status: 200, ...file };
  }

  async #api(request: IncomingMessage, visitor: Visitor, path: string, query: URLSearchParams): Promise<Answer> {
    const routes = this.#routes.filter((route) => route.path.test(path));
    const route = routes.find(({ method }) => method === request.method);
    const verdict = this.#gate.judge(visitor, route?.needsAdmin(query) ?? false);
    if (!verdict.ok) {
      const { status, error, retryAfterSeconds } = verdict;
      return json(status, { error }, retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) });
    }
    if (routes.length === 0) return json(404, { error: 'the console has no such thing' });
    if (route === undefined) return json(405, { error: 'not with this method' }, { allow: routes.map(({ method }) => method).join(', ') });
    const body = route.method === 'POST' ? await readJsonObject(request) : {};
    const id = route.path.exec(path)?.[1] ?? '';
    return route.answer({ id, query, body, admin: verdict.admin, address: visitor.address });
  }
}

function failure(error: unknown): Answer {
  if (error instanceof ConfigError) return json(400, { error: error.problems.join('; ') });
  if (error instanceof InorderError) return json(503, { error: redactUrls(error.message) });
  return json(500, { error: 'the answer could not be made' });
}
