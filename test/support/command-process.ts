/** Runs `inorder …` as users do, in a process of its own, and gives what it wrote and how it ended. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { leastPrivileged } from './least-privilege.ts';
import { environment, fromCheckout, type Launcher } from './worker-process.ts';

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningCommand {
  readonly process: ChildProcessWithoutNullStreams;
  readonly ended: Promise<CommandResult>;
}

/** Starts it, as the user of its role; its standard input stays open. */
export async function startCommand(
  words: readonly string[],
  variables: Readonly<Record<string, string>>,
  launcher: Launcher = fromCheckout,
): Promise<RunningCommand> {
  const [file, ...args] = launcher.program;
  const env = environment(await leastPrivileged(words, variables));
  const child = spawn(file, [...args, ...words], { env, cwd: launcher.folder });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
    });
  }
  const ended = once(child, 'close').then(([code]) => ({ code, ...output }) as CommandResult);
  return { process: child, ended };
}

/** Runs it to its end. */
export async function runCommand(
  words: readonly string[],
  variables: Readonly<Record<string, string>>,
  stdin = '',
  launcher: Launcher = fromCheckout,
): Promise<CommandResult> {
  const { process: child, ended } = await startCommand(words, variables, launcher);
  // A command that ends without reading its input closes the pipe.
  child.stdin.on('error', () => undefined);
  child.stdin.end(stdin);
  return ended;
}
