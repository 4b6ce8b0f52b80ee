/**
 * The real process behind a command's `CommandIo`. Guarantees that a reader that closes the pipe (`| head`) ends
 * the output without an error, that a full disk is an error, and that signals keep their
 * usual effect until a command handles them.
 */
import { createWriteStream, fstatSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { LineWriter } from '../observability/line-writer.ts';
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
