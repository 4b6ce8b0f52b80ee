/** A `CommandIo` for tests: what a command writes is kept as text, and its signal is in the test's hand. */
import { Readable } from 'node:stream';
import type { CommandIo, Output } from '../../src/cli/command.ts';
import { systemTime } from '../../src/time.ts';

export interface KeptIo {
  readonly io: CommandIo;
  /** Everything written so far. */
  readonly out: { stdout: string; stderr: string; log: string };
  /** SIGTERM, as the command sees it. */
  stop(): void;
}

export function keptIo(options: { env?: Record<string, string | undefined>; stdin?: string } = {}): KeptIo {
  const out = { stdout: '', stderr: '', log: '' };
  const controller = new AbortController();
  const output = (name: 'stdout' | 'stderr'): Output => ({
    trouble: null,
    write: async (text) => {
      out[name] += text;
      return true;
    },
  });
  const io: CommandIo = {
    stdout: output('stdout'),
    stderr: output('stderr'),
    stdin: Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]),
    env: options.env ?? {},
    isTTY: false,
    time: systemTime,
    takeSignals: () => controller.signal,
    onCrash: () => undefined,
    onLevelSignal: () => undefined,
    logLine: (line) => {
      out.log += line;
    },
  };
  return { io, out, stop: () => controller.abort() };
}
