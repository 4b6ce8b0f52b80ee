/**
 * A TCP proxy that misbehaves on command, to put between a client and a broker or store.
 *
 * It knows no protocol: it delays, slices, holds, drops and cuts bytes. All connections share the conditions, and
 * those change at any time. It listens on one loopback port for its whole life, also when it refuses connections
 * in between. A connection that is reset looks to both sides like a peer that crashed.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { freePort, loopback } from '../../deploy/local/free-port.ts';
import type { Owner } from './services.ts';
import { Lane, type Direction, type LaneConditions } from './tcp-proxy-lane.ts';

export type { Direction } from './tcp-proxy-lane.ts';

interface Link {
  readonly client: Socket;
  readonly server: Socket;
}

/**
 * Resets a connection. While its shutdown is under way it is closed instead: a reset fails there (EINVAL, Node 20), `close` never comes,
 * and the process spins for ever when it is to exit.
 */
export function reset(socket: Socket): void {
  const isShuttingDown = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
  if (isShuttingDown) socket.destroy();
  else socket.resetAndDestroy();
}

export class TcpProxy {
  /** The same for the proxy's whole life. */
  readonly port: number;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #links = new Set<Link>();
  readonly #conditions: Record<Direction, LaneConditions>;
  readonly #forwarded: Record<Direction, number> = { toServer: 0, toClient: 0 };
  readonly #dropped: Record<Direction, number> = { toServer: 0, toClient: 0 };
  readonly #cutAt: Record<Direction, number> = { toServer: Infinity, toClient: Infinity };
  #listener: Server | null = null;
  /** Ends of connections that happened while the wire carried nothing: nobody hears of them before it does. */
  readonly #unheardEnds: { readonly direction: Direction; readonly propagate: () => void }[] = [];
  #accepted = 0;

  private constructor(port: number, target: { readonly host: string; readonly port: number }) {
    this.port = port;
    this.#target = target;
    this.#conditions = { toServer: this.#calm('toServer'), toClient: this.#calm('toClient') };
  }

  /** Listens on a free port and forwards to the host and port of `targetUrl` (which must name its port). */
  static async start(targetUrl: string): Promise<TcpProxy> {
    const { hostname, port } = new URL(targetUrl);
    const proxy = new TcpProxy(await freePort(), { host: hostname, port: Number(port) });
    await proxy.#listen();
    return proxy;
  }

  /** The same URL, leading through the proxy. */
  through(url: string): string {
    const changed = new URL(url);
    changed.hostname = loopback;
    changed.port = String(this.port);
    // For schemes it does not know, URL keeps an empty path empty; for http it appends a slash that nobody wrote.
    return url.endsWith('/') ? changed.href : changed.href.replace(/\/$/, '');
  }

  get openConnections(): number {
    return this.#links.size;
  }

  /** Connections accepted so far: a client that reconnected makes it grow. */
  get acceptedConnections(): number {
    return this.#accepted;
  }

  /** Bytes passed on so far, over all connections. */
  forwardedBytes(direction: Direction): number {
    return this.#forwarded[direction];
  }

  /** Bytes thrown away so far, over all connections. */
  droppedBytes(direction: Direction): number {
    return this.#dropped[direction];
  }

  /** Resets every connection, on both sides, now. New ones are accepted. */
  cut(): void {
    for (const { client, server } of this.#links) {
      reset(client);
      reset(server);
    }
  }

  /** While on, nothing passes either way, not even the end of a connection; at its end all that waited goes on. */
  blackHole(on: boolean): void {
    this.hold('toServer', on);
    this.hold('toClient', on);
  }

  /** Like `blackHole`, for one direction. */
  hold(direction: Direction, on: boolean): void {
    this.#conditions[direction].held = on;
    this.#propagateEnds();
  }

  /** Throws the bytes of one direction away. The streams are damaged: `cut` before switching this off. */
  drop(direction: Direction, on: boolean): void {
    this.#conditions[direction].dropping = on;
  }

  /** The server's side of every connection goes away and the client hears nothing of it. */
  halfOpen(): void {
    for (const { server } of this.#links) {
      server.removeAllListeners('close');
      reset(server);
    }
  }

  /** While on, new connections are refused; existing ones stay. Resolves when it is so. */
  async refuse(on: boolean): Promise<void> {
    if (!on) return this.#listener === null ? this.#listen() : undefined;
    const listener = this.#listener;
    this.#listener = null;
    // Not awaited to its end: `close` completes only when the last existing connection is gone.
    listener?.close();
  }

  /** Adds latency to both directions, with up to `jitterMs` more at random. */
  delay(delayMs: number, jitterMs = 0): void {
    for (const conditions of Object.values(this.#conditions)) Object.assign(conditions, { delayMs, jitterMs });
  }

  /** Writes at most so many bytes at a time. */
  slice(sliceBytes: number): void {
    for (const conditions of Object.values(this.#conditions)) conditions.sliceBytes = sliceBytes;
  }

  /** Limits each direction of each connection to this rate. */
  throttle(bytesPerSecond: number): void {
    for (const conditions of Object.values(this.#conditions)) conditions.bytesPerSecond = bytesPerSecond;
  }

  /** Once: passes `count` more bytes of that direction, over all connections, and then cuts every connection. */
  cutAfterBytes(direction: Direction, count: number): void {
    this.#cutAt[direction] = this.#forwarded[direction] + count;
  }

  /** Back to passing everything on at once. Connections that were cut stay cut. */
  async heal(): Promise<void> {
    for (const direction of ['toServer', 'toClient'] as const) {
      this.#cutAt[direction] = Infinity;
      Object.assign(this.#conditions[direction], this.#calm(direction));
    }
    this.#propagateEnds();
    await this.refuse(false);
  }

  /** Ends everything. */
  stop(): void {
    this.cut();
    this.#listener?.close();
    this.#listener = null;
  }

  #propagateEnds(): void {
    const due = this.#unheardEnds.filter(({ direction }) => !this.#conditions[direction].held);
    const waiting = this.#unheardEnds.filter(({ direction }) => this.#conditions[direction].held);
    this.#unheardEnds.splice(0, this.#unheardEnds.length, ...waiting);
    for (const { propagate } of due) propagate();
  }

  #calm(direction: Direction): LaneConditions {
    return {
      held: false,
      dropping: false,
      delayMs: 0,
      jitterMs: 0,
      sliceBytes: Infinity,
      bytesPerSecond: Infinity,
      allowance: (length) => this.#pass(direction, length),
      dropped: (length) => {
        this.#dropped[direction] += length;
      },
    };
  }

  #pass(direction: Direction, length: number): number {
    const allowed = Math.min(length, this.#cutAt[direction] - this.#forwarded[direction]);
    this.#forwarded[direction] += allowed;
    if (this.#forwarded[direction] >= this.#cutAt[direction]) {
      this.#cutAt[direction] = Infinity;
      // After the write that this allowance is for.
      setImmediate(() => this.cut());
    }
    return allowed;
  }

  async #listen(): Promise<void> {
    const listener = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#accept(client));
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(this.port, loopback, resolve);
    });
    this.#listener = listener;
  }

  #accept(client: Socket): void {
    const server = connect({ ...this.#target, allowHalfOpen: true, noDelay: true });
    const link: Link = { client, server };
    this.#links.add(link);
    this.#accepted += 1;
    for (const [socket, other, direction] of [
      [client, server, 'toServer'],
      [server, client, 'toClient'],
    ] as const) {
      socket.on('error', () => undefined);
      socket.on('close', (hadError) => {
        const propagate = () => (hadError ? reset(other) : other.destroy());
        this.#unheardEnds.push({ direction, propagate });
        this.#propagateEnds();
      });
    }
    client.once('close', () => this.#links.delete(link));
    new Lane(client, server, this.#conditions.toServer);
    new Lane(server, client, this.#conditions.toClient);
  }
}

/** A proxy for one test, gone after it. */
export async function useTcpProxy(t: Owner, targetUrl: string): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(targetUrl);
  t.after(() => proxy.stop());
  return proxy;
}
