/** Where the demo writes: lines that stay, and on a terminal one line below them that moves. */
import type { Time } from '../time.ts';

const redrawMs = 100;
const clearLine = '\r\u001b[K';

export class Screen {
  readonly #write: (text: string) => void;
  readonly #isTTY: boolean;
  readonly #time: Time;
  #moving = '';
  #drawnMs = Number.NEGATIVE_INFINITY;

  constructor(write: (text: string) => void, isTTY: boolean, time: Time) {
    this.#write = write;
    this.#isTTY = isTTY;
    this.#time = time;
  }

  print(text: string): void {
    this.#write(this.#moving === '' ? text : `${clearLine}${text}${this.#moving}`);
  }

  /** Replaced by the next one; nothing where there is no terminal. */
  progress(line: string): void {
    if (!this.#isTTY) return;
    const nowMs = this.#time.nowMs();
    if (line !== '' && nowMs - this.#drawnMs < redrawMs) return;
    this.#drawnMs = line === '' ? Number.NEGATIVE_INFINITY : nowMs;
    if (line === this.#moving) return;
    this.#moving = line;
    this.#write(`${clearLine}${line}`);
  }
}
