/**
 * One direction of one proxied connection: bytes go in, and come out under the conditions that the proxy sets.
 *
 * The order of bytes is kept always. Delay is latency, not throughput: several chunks travel at the same time. What
 * has been accepted and not yet written is bounded; beyond that the sender is not read, as on a real, slow wire.
 */
import type { Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

export type Direction = 'toServer' | 'toClient';

/** The conditions of a direction. They may change at any time and apply to bytes not yet written. */
export interface LaneConditions {
  /** Nothing comes out and nothing is lost; bytes, and the end of them, wait for the end of it. */
  held: boolean;
  /** Bytes are thrown away. The stream is damaged afterwards: cut the connection before ending this. */
  dropping: boolean;
  /** Latency added to every chunk, and an upper bound of random latency on top of it. */
  delayMs: number;
  jitterMs: number;
  /** Writes are no longer than this. `Infinity`: as they come. */
  sliceBytes: number;
  bytesPerSecond: number;
  /** Called before bytes are written; returns how many may be, and a smaller number means that a cut follows. */
  allowance(length: number): number;
  /** Called with the number of bytes that were thrown away. */
  dropped(length: number): void;
}

interface Chunk {
  readonly bytes: Buffer;
  readonly dueMs: number;
}

const queueLimitBytes = 1 << 20;
const holdPollMs = 5;

export class Lane {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #conditions: LaneConditions;
  readonly #queue: Chunk[] = [];
  #queuedBytes = 0;
  #lastDueMs = 0;
  #pumping = false;
  #ended = false;

  constructor(source: Socket, sink: Socket, conditions: LaneConditions) {
    this.#source = source;
    this.#sink = sink;
    this.#conditions = conditions;
    source.on('data', (bytes: Buffer) => this.#accept(bytes));
    source.on('end', () => {
      this.#ended = true;
      void this.#pump();
    });
  }

  #accept(bytes: Buffer): void {
    const { delayMs, jitterMs } = this.#conditions;
    // A later chunk may not overtake an earlier one that drew more jitter.
    this.#lastDueMs = Math.max(this.#lastDueMs, performance.now() + delayMs + Math.random() * jitterMs);
    this.#queue.push({ bytes, dueMs: this.#lastDueMs });
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > queueLimitBytes) this.#source.pause();
    void this.#pump();
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    for (let chunk = this.#queue.shift(); chunk !== undefined; chunk = this.#queue.shift()) {
      await this.#travel(chunk);
      this.#queuedBytes -= chunk.bytes.length;
      if (this.#queuedBytes <= queueLimitBytes) this.#source.resume();
      if (this.#sink.destroyed) break;
    }
    if (this.#ended) await this.#untilReleased();
    this.#pumping = false;
    if (this.#ended && !this.#sink.destroyed) this.#sink.end();
  }

  async #travel(chunk: Chunk): Promise<void> {
    const waitMs = chunk.dueMs - performance.now();
    if (waitMs > 1) await sleep(waitMs);
    for (let offset = 0; offset < chunk.bytes.length && !this.#sink.destroyed; ) {
      await this.#untilReleased();
      if (this.#conditions.dropping) return this.#conditions.dropped(chunk.bytes.length - offset);
      const end = Math.min(chunk.bytes.length, offset + this.#conditions.sliceBytes);
      const slice = chunk.bytes.subarray(offset, end);
      await this.#write(slice.subarray(0, this.#conditions.allowance(slice.length)));
      offset = end;
    }
  }

  async #untilReleased(): Promise<void> {
    while (this.#conditions.held && !this.#sink.destroyed) await sleep(holdPollMs);
  }

  async #write(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    const written = new Promise<void>((resolve) => {
      this.#sink.once('close', resolve);
      this.#sink.write(bytes, () => {
        this.#sink.off('close', resolve);
        resolve();
      });
    });
    const { bytesPerSecond, sliceBytes } = this.#conditions;
    await written;
    // Gives the receiver a turn to read this slice, or the kernel would join it with the next.
    if (Number.isFinite(sliceBytes)) await nextTurn();
    if (Number.isFinite(bytesPerSecond)) await sleep((bytes.length * 1000) / bytesPerSecond);
  }
}
