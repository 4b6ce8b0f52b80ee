/**
 * The file of TOKENS_FILE: one user a line, with name, role and the SHA-256 of the token, apart by white space. Empty lines, and those
 * that begin with `#`, say nothing. A name may have several lines, so that a token can be exchanged without a gap. No message shows
 * more of the file than the number of a line: somebody may have put the token itself there.
 */
import { createHash } from 'node:crypto';
import type { NamedToken } from './config.ts';
import type { Values } from './variables.ts';

export function tokensIn(
  text: string,
  { ADMIN_TOKEN, READ_TOKEN }: Pick<Values, 'ADMIN_TOKEN' | 'READ_TOKEN'>,
  problems: string[],
): readonly NamedToken[] {
  const tokens: NamedToken[] = [];
  /** By the hash of the token. */
  const holders = new Map<string, string>();
  for (const [name, token] of Object.entries({ ADMIN_TOKEN, READ_TOKEN }))
    if (token !== null) holders.set(createHash('sha256').update(token).digest('hex'), name);
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const token = parseLine(line.trim());
    const where = `TOKENS_FILE, line ${index + 1}`;
    if (token === null)
      problems.push(`${where}: it must be a name, \`viewer\` or \`operator\`, and 64 hex digits, the SHA-256 of the token`);
    else if (holders.has(token.hash)) problems.push(`${where}: ${holders.get(token.hash)} has the same token: each needs one of its own`);
    else {
      tokens.push(token);
      holders.set(token.hash, 'another line');
    }
  }
  return tokens;
}

function parseLine(line: string): NamedToken | null {
  const [, name, role, hash] = /^([^\s\p{C},]{1,100})\s+(viewer|operator)\s+([0-9a-f]{64})$/iu.exec(line) ?? [];
  if (name === undefined || hash === undefined) return null;
  return { name, role: role!.toLowerCase() as NamedToken['role'], hash: hash.toLowerCase() };
}
