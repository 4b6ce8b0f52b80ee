/**
 * A server on HTTP that is bounded in connections, header size and time, so that whoever reaches the port cannot hold
 * the process up. What it answers is for its handler.
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from '../errors.ts';

export interface HttpServer {
  readonly host: string;
  /** The port that it listens on, also when 0 was asked for. */
  readonly port: number;
  /** Closes the port and every connection. */
  close(): Promise<void>;
}

export interface ListenOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly handle: RequestListener;
}

const maxConnections = 64;
const limits = { maxHeaderSize: 8_192, headersTimeout: 5_000, requestTimeout: 10_000, keepAliveTimeout: 5_000 };

/** @throws ConfigError when the address cannot be listened on, saying why. */
export async function listenHttp({ host, port, handle }: ListenOptions): Promise<HttpServer> {
  const server = createServer(limits, handle);
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
