/** What is wrong with single lines of an input, for standard error: fit for a terminal, and no more than fit on one. */
import { printable } from '../printable.ts';
import { clearLine, grouped } from '../publishing/progress-line.ts';
import type { CommandIo } from './command.ts';

const maxShown = 20;

export class ProblemLines {
  readonly #io: CommandIo;
  #said = 0;

  constructor(io: CommandIo) {
    this.#io = io;
  }

  say(problem: string): void {
    if (++this.#said <= maxShown) void this.#io.stderr.write(`${this.#io.isTTY ? clearLine : ''}inorder: ${printable(problem)}\n`);
  }

  end(): void {
    if (this.#said > maxShown) void this.#io.stderr.write(`inorder: and ${grouped(this.#said - maxShown)} more of these\n`);
  }
}
