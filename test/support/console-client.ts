/** Asks a console as a browser does, or as one that lies about where it comes from: every header is in the test's hand. */
import { request } from 'node:http';
import { waitFor } from './services.ts';

export const adminToken = 'a-token-for-tests-only';

export interface ConsoleAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Parsed where it is JSON, else as text. */
  readonly body: any;
}

export interface AskOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object;
  /** With the token. */
  readonly admin?: boolean;
}

export class ConsoleClient {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  /** GET, or POST where there is a body; `path` from the root. */
  ask(path: string, { headers = {}, body, admin = false }: AskOptions = {}): Promise<ConsoleAnswer> {
    const all = {
      connection: 'close',
      ...(admin ? { authorization: `Bearer ${adminToken}` } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    };
    return new Promise((resolve, reject) => {
      const sent = request(new URL(path, this.#url), { method: body === undefined ? 'GET' : 'POST', headers: all }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: parse(text) }));
      });
      sent.on('error', reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async api(path: string, options: AskOptions = {}): Promise<any> {
    const { status, body } = await this.ask(`/console/api/${path}`, options);
    if (status >= 300) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  /** The dead letters, once a reading has found so many. */
  letters(count: number, query = ''): Promise<any> {
    return waitFor(
      async () => {
        await this.api('overview?watch=letters');
        const letters = await this.api(`letters${query}`);
        return letters.total === count ? letters : null;
      },
      { what: `${count} dead letters in the console`, timeoutMs: 30_000 },
    );
  }

  /** Plans a change and gives it back when it is planned, or failed. */
  async plan(request: object): Promise<any> {
    const { id } = await this.api('changes', { body: request, admin: true });
    return this.#when(id, ['planned', 'failed']);
  }

  /** Plans it, confirms it and gives it back when it is over. */
  async carryOut(request: object): Promise<any> {
    const { id, state, error } = await this.plan(request);
    if (state !== 'planned') throw new Error(error);
    await this.api(`changes/${id}/confirm`, { body: {}, admin: true });
    return this.#when(id, ['done', 'failed', 'stopped']);
  }

  #when(id: string, states: readonly string[]): Promise<any> {
    const look = async () => {
      const change = await this.api(`changes/${id}`, { admin: true });
      return states.includes(change.state) ? change : null;
    };
    return waitFor(look, { what: `a change that is ${states.join(' or ')}`, timeoutMs: 60_000 });
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
