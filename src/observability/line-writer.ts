/**
 * Writes lines to a file descriptor; never throws, emits or waits. Writing is synchronous, so that the last
 * line before an exit is not lost. Lines that do not fit into a full pipe are kept, up to a limit, and written
 * later; lines that do not fit on a full disk are dropped. Once the reader has closed the pipe, all lines are
 * dropped.
 */
import { writeSync } from 'node:fs';
import type { Time, Timer } from '../time.ts';

const maxPendingBytes = 1_048_576;
const retryMs = 50;

export class LineWriter {
  readonly #fd: number;
  readonly #time: Time;
  /** Lines that are not written yet, oldest first. */
  #pending: Buffer = Buffer.alloc(0);
  #closed = false;
  #retry: Timer | null = null;

  constructor(fd: number, time: Time) {
    this.#fd = fd;
    this.#time = time;
  }

  /** `line` ends with its line feed. */
  write(line: string): void {
    if (this.#closed || this.#pending.length > maxPendingBytes) return;
    const bytes = Buffer.from(line);
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    this.#flush();
  }

  #flush(): void {
    try {
      while (this.#pending.length > 0) this.#pending = this.#pending.subarray(writeSync(this.#fd, this.#pending));
    } catch (error) {
      this.#failed((error as NodeJS.ErrnoException).code);
    }
  }

  #failed(code: string | undefined): void {
    if (code === 'EAGAIN') {
      const again = () => {
        this.#retry = null;
        this.#flush();
      };
      this.#retry ??= this.#time.after(retryMs, again, { unref: true });
      return;
    }
    // A closed pipe stays closed; other errors (ENOSPC, EIO) may pass.
    this.#closed = code === 'EPIPE' || code === 'EBADF';
    this.#pending = Buffer.alloc(0);
  }
}
