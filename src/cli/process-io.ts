/**
 * The real process behind a command's `CommandIo`. Guarantees that a reader that closes the pipe (`| head`) ends
 * the output without an error, that a full disk is an error, and that signals keep their
 * usual effect until a command handles them. Long work shows its progress there, on one line of a terminal only, and the problems of
 * single input lines, on standard error, without control characters and at most as many as fit on a screen.
 */
import { createWriteStream, fstatSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { LineWriter } from '../observability/log.ts';
import { grouped, printable } from '../printable.ts';
import type { Time } from '../time.ts';
import type { CommandIo, Output } from './command.ts';

export function processIo(time: Time): CommandIo {
  let taken: AbortSignal | null = null;
  let reportCrash: Parameters<CommandIo['onCrash']>[0] | null = null;
  const log = new LineWriter(1, time);
  return {
    stdout: outputTo(openStdout),
    stderr: outputTo(() => process.stderr),
    get stdin() {
      return process.stdin;
    },
    env: process.env,
    // Read from the descriptor: opening `process.stdout` would make a pipe non-blocking for the log.
    isTTY: isatty(1),
    time,
    takeSignals: () => (taken ??= takeSignals()),
    onCrash(report) {
      if (reportCrash === null) process.on('uncaughtException', (error) => void endWith(error));
      reportCrash = report;
    },
    onLevelSignal: (change) => void process.on('SIGUSR2', change),
    logLine: (line) => log.write(line),
  };

  /** Node also raises unhandled rejections so. The state of the process is unknown; unacknowledged deliveries go to the next owner. */
  async function endWith(error: unknown): Promise<void> {
    try {
      await reportCrash?.(error);
    } finally {
      process.exit(1);
    }
  }
}

/** Node's own stream silently drops text that does not fit on a full disk; a file stream writes the rest, or fails. */
function openStdout(): Writable {
  return fstatSync(1).isFile() ? createWriteStream('', { fd: 1, autoClose: false }) : process.stdout;
}

function takeSignals(): AbortSignal {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(1);
    controller.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller.signal;
}

/** An output on a stream, which is opened by the first write. */
export function outputTo(open: () => Writable): Output {
  let stream: Writable | null = null;
  let trouble: string | null = null;
  const failed = (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') trouble ??= error.message;
  };
  return {
    get trouble() {
      return trouble;
    },
    write(text) {
      if (stream === null) {
        stream = open();
        // Without a listener a failing stream would end the process; the writer gets the outcome.
        stream.on('error', failed);
      }
      const target = stream;
      if (!target.writable) return Promise.resolve(false);
      return new Promise((resolve) => target.write(text, (error) => resolve(!error)));
    },
  };
}

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
