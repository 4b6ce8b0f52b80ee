/** A `CommandIo` for tests: what a command writes is kept as text, and its signal is in the test's hand. */
import { Readable } from 'node:stream';
import type { CommandIo, ExitCode, Output } from '../../src/cli/command.ts';
import { commands, runCli } from '../../src/cli/run.ts';
import { systemTime } from '../../src/time.ts';
import { leastPrivileged } from './least-privilege.ts';

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

/** Runs `inorder …` in this process, as the user of its role. */
export async function runHere(words: readonly string[], io: CommandIo): Promise<ExitCode> {
  return runCli({ commands, version: '0' }, words, { ...io, env: await leastPrivileged(words, io.env) });
}
