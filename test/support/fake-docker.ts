/** A Docker engine that answers, has no image and cannot pull one: as on a machine that reaches no registry. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';

/** How a pull fails: `refused` with an error status, `broken` after the engine had promised success. */
export type PullFailure = 'refused' | 'broken';

export interface FakeDocker {
  readonly dockerHost: string;
  /** Images that were asked for. */
  readonly pulled: string[];
  pullFailure: PullFailure;
}

export async function useFakeDocker(t: TestContext): Promise<FakeDocker> {
  const pulled: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://docker');
    if (url.pathname.endsWith('/info')) return json(response, 200, { OSType: 'linux', ServerVersion: '20.10' });
    if (url.pathname.endsWith('/images/create')) {
      pulled.push(`${url.searchParams.get('fromImage')}`);
      if (docker.pullFailure === 'refused') return json(response, 500, { message: 'Get "https://registry": refused' });
      return json(response, 200, { errorDetail: {}, error: 'registry went away' });
    }
    return json(response, 404, { message: `No such image: ${url.pathname}` });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const docker: FakeDocker = { dockerHost: `tcp://127.0.0.1:${port}`, pulled, pullFailure: 'refused' };
  return docker;
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
