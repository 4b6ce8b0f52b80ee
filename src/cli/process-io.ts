/**
 * The real process behind a command's `CommandIo`. Guarantees that a reader which goes away (`| head`) ends
 * the output and not the process with an error, and that signals keep their usual effect until a command
 * takes them over.
 */
import type { Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { LineWriter } from '../observability/line-writer.ts';
import type { CommandIo, Output } from './command.ts';

export function processIo(): CommandIo {
  let taken: AbortSignal | null = null;
  const log = new LineWriter(1);
  return {
    stdout: outputTo(() => process.stdout),
    stderr: outputTo(() => process.stderr),
    get stdin() {
      return process.stdin;
    },
    env: process.env,
    // Asked of the descriptor: opening `process.stdout` would make a pipe non-blocking for the log.
    isTTY: isatty(1),
    takeSignals: () => (taken ??= takeSignals()),
    onCrash,
    logLine: (line) => log.write(line),
  };
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

function onCrash(report: (error: unknown) => void): void {
  // Node raises a rejection that nobody handled as an exception too.
  process.once('uncaughtException', (error) => {
    // Nothing can be relied on any more; what is unacknowledged goes to the next owner.
    report(error);
    process.exit(1);
  });
}

/** An output on a stream, which is opened by the first write. */
export function outputTo(open: () => Writable): Output {
  let stream: Writable | null = null;
  return {
    write(text) {
      if (stream === null) {
        stream = open();
        // A stream that fails without a listener ends the process; the outcome is told to whoever writes.
        stream.on('error', () => undefined);
      }
      const target = stream;
      if (!target.writable) return Promise.resolve(false);
      return new Promise((resolve) => target.write(text, (error) => resolve(!error)));
    },
  };
}
