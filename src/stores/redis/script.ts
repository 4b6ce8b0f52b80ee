/**
 * The Lua scripts, and how they are run: by their digest, a whole batch in one round trip. A server that does not know
 * a script (a new one, or after SCRIPT FLUSH) is given it, and what it refused is sent again.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Command, Connection, Reply } from './connection.ts';
import { unavailable } from './failures.ts';
import { needsTime } from './replies.ts';

export interface Script {
  readonly source: string;
  readonly digest: string;
  /** How many of the arguments are keys: the number at the end of the file's name. */
  readonly keys: number;
}

/** Keys and arguments of a script. */
export type Call = readonly (string | number)[];

/** The name of a file in `scripts/`, without its ending. */
export function loadScript(name: string): Script {
  const source = readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), 'utf8');
  const digest = createHash('sha1').update(source).digest('hex');
  return { source, digest, keys: Number(/-(\d+)$/.exec(name)?.[1]) };
}

/** Somebody who flushes scripts between the loading and the call cannot keep it up; after so many it is an error. */
const attempts = 3;

/** Runs the script once for each list of keys and arguments, and answers in their order. */
export async function runScript(connection: Connection, script: Script, calls: readonly Call[]): Promise<readonly Reply[]> {
  const command = (call: Call): Command => ['EVALSHA', script.digest, script.keys, ...call];
  const replies = [...(await connection.send(calls.map(command)))];
  for (let attempt = 1; attempt < attempts; attempt++) {
    const refused = [...replies.keys()].filter((index) => replies[index]?.[0]?.message.startsWith('NOSCRIPT'));
    if (refused.length === 0) break;
    await connection.askMasters(['SCRIPT', 'LOAD', script.source]);
    const again = await connection.send(refused.map((index) => command(calls[index] ?? [])));
    for (const [at, index] of refused.entries()) replies[index] = again[at] ?? replies[index] ?? [null];
  }
  for (const [error] of replies) if (error) nameRefusedCommand(error, script);
  return replies;
}

/** Before Redis 7.2 a script that its user may not run to its end says at which line, and not by which command. */
function nameRefusedCommand(error: Error, { source }: Script): void {
  const [, line] = /can't run this command.*@user_script: ?(\d+)/.exec(error.message) ?? [];
  if (line === undefined) return;
  const calls = [...(source.split('\n')[Number(line) - 1] ?? '').matchAll(/redis\.call\('(\w+)'/g)].map(
    ([, name = '']) => `'${name.toLowerCase()}'`,
  );
  error.message = `NOPERM this user has no permissions to run the ${calls.join(' or ')} command in a script`;
}

/** Runs it once; a failure is the store's. */
export async function askScript(connection: Connection, script: Script, call: Call): Promise<unknown> {
  const [reply] = await runScript(connection, script, [call]);
  if (reply?.[0]) throw unavailable(connection.where, reply[0]);
  return reply?.[1];
}

const timeScript = loadScript('time-1');

/**
 * The replies to a reading of these keys, with their server's time behind each that cannot be understood without it: those of
 * entities that are being replayed. Of all others nothing more is asked.
 */
export async function withTimes(connection: Connection, keys: readonly string[], replies: readonly Reply[]): Promise<readonly Reply[]> {
  const timed = [...replies.keys()].filter((index) => needsTime(replies[index]?.[1]));
  if (timed.length === 0) return replies;
  const times = await runScript(
    connection,
    timeScript,
    timed.map((index) => [keys[index] ?? '']),
  );
  const complete = [...replies];
  for (const [at, index] of timed.entries()) {
    const [error, now] = times[at] ?? [null];
    complete[index] = error ? [error] : [null, [...(replies[index]![1] as unknown[]), now]];
  }
  return complete;
}
