/** On a terminal one line that counts; elsewhere nothing. */
import { clearLine, grouped } from '../publishing/progress-line.ts';
import type { CommandIo } from './command.ts';

const redrawMs = 100;

export class CountDisplay {
  readonly #io: CommandIo;
  readonly #verb: string;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #drawn = false;

  constructor(io: CommandIo, verb: string) {
    this.#io = io;
    this.#verb = verb;
  }

  show(count: number, total?: number): void {
    const nowMs = this.#io.time.nowMs();
    if (!this.#io.isTTY || nowMs - this.#drawnMs < redrawMs) return;
    this.#drawnMs = nowMs;
    this.#drawn = true;
    void this.#io.stdout.write(`${clearLine}${grouped(count)}${total === undefined ? '' : ` of ${grouped(total)}`} ${this.#verb}`);
  }

  end(): void {
    if (this.#drawn) void this.#io.stdout.write(clearLine);
    this.#drawn = false;
  }
}
