/**
 * The progress of a command, on one line of a terminal only; and the problems of single input lines, on
 * standard error, without control characters and at most as many as fit on a screen.
 */
import { grouped, printable } from '../printable.ts';
import type { PublishCounts } from '../publishing/publish-input.ts';
import type { CommandIo } from './command.ts';

const redrawMs = 100;
const maxProblems = 20;

/** Returns to the beginning of the terminal's line and clears it. */
const clearLine = '\r\u001b[K';

export class ProgressDisplay {
  readonly #io: CommandIo;
  readonly #verb: string;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #drawn = false;
  #problems = 0;

  constructor(io: CommandIo, verb = '') {
    this.#io = io;
    this.#verb = verb;
  }

  show(count: number, total?: number): void {
    this.draw(() => `${grouped(count)}${total === undefined ? '' : ` of ${grouped(total)}`} ${this.#verb}`);
  }

  draw(text: () => string): void {
    const nowMs = this.#io.time.nowMs();
    if (!this.#io.isTTY || nowMs - this.#drawnMs < redrawMs) return;
    this.#drawnMs = nowMs;
    this.#drawn = true;
    void this.#io.stdout.write(`${clearLine}${text()}`);
  }

  say(problem: string): void {
    if (++this.#problems <= maxProblems) void this.#io.stderr.write(`${this.#io.isTTY ? clearLine : ''}inorder: ${printable(problem)}\n`);
  }

  end(): void {
    if (this.#drawn) void this.#io.stdout.write(clearLine);
    if (this.#problems > maxProblems) void this.#io.stderr.write(`inorder: and ${grouped(this.#problems - maxProblems)} more of these\n`);
    this.#drawn = false;
    this.#problems = 0;
  }
}

export interface Progress extends PublishCounts {
  /** The share of the input that has been read, 0 to 1; null if its length is unknown. */
  readonly share: number | null;
  readonly elapsedMs: number;
}

const barWidth = 24;

/** `[######··················]  25 %  3,400 published, 3,380 confirmed, 12,100/s` */
export function progressLine({ share, published, confirmed, returned, failed, elapsedMs }: Progress): string {
  const rate = Math.round((confirmed * 1_000) / Math.max(elapsedMs, 1));
  const parts = [`${grouped(published)} published`, `${grouped(confirmed)} confirmed`];
  if (returned > 0) parts.push(`${grouped(returned)} returned`);
  if (failed > 0) parts.push(`${grouped(failed)} failed`);
  return `${share === null ? '' : `${bar(Math.min(share, 1))}  `}${parts.join(', ')}, ${grouped(rate)}/s`;
}

function bar(share: number): string {
  const filled = Math.floor(share * barWidth);
  return `[${'#'.repeat(filled)}${'·'.repeat(barWidth - filled)}] ${String(Math.floor(share * 100)).padStart(3)} %`;
}
