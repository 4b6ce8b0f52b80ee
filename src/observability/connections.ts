/**
 * The connections of an HTTP server: at most so many in all and of one address. A new one finds room even so: the one closes that has
 * waited longest for its client, which sends its request or takes its answer slowly, or asks nothing. One whose request is being
 * answered stays. So clients that only hold connections keep nobody out.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/** Of visitors at one time. */
export const mostInAll = 256;
/** Less than all, for health and metrics come from other addresses than the console's visitors. */
const mostOfAddress = 128;

export class Connections {
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
