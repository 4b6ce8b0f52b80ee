/**
 * Writes lines to a file descriptor and never throws, never emits and never waits. Writing is synchronous, so
 * that the last line before an exit is not lost; what a full pipe does not take is kept, up to a limit, and
 * tried again; what a full disk does not take is dropped, because memory is no place for a log. Once the
 * reader has closed the pipe, lines go nowhere.
 */
import { writeSync } from 'node:fs';
import type { Time, Timer } from '../time.ts';

const maxPendingBytes = 1_048_576;
const retryMs = 50;

export class LineWriter {
  readonly #fd: number;
  readonly #time: Time;
  /** What the pipe has not taken yet, oldest first. */
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
    // Nobody will read a closed pipe again; any other trouble (ENOSPC, EIO) may pass.
    this.#closed = code === 'EPIPE' || code === 'EBADF';
    this.#pending = Buffer.alloc(0);
  }
}
