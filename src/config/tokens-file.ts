/**
 * The file of TOKENS_FILE: one user a line, with name, role and the SHA-256 of the token, apart by white space. Empty lines, and those
 * that begin with `#`, say nothing. A name may have several lines, so that a token can be exchanged without a gap. No message shows
 * more of the file than the number of a line: somebody may have put the token itself there.
 */
import type { NamedToken } from './config.ts';

export function tokensIn(text: string, problems: string[]): readonly NamedToken[] {
  const tokens: NamedToken[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const token = parseLine(line.trim());
    const where = `TOKENS_FILE, line ${index + 1}`;
    if (token === null)
      problems.push(`${where}: it must be a name, \`viewer\` or \`operator\`, and 64 hex digits, the SHA-256 of the token`);
    else if (tokens.some(({ hash }) => hash === token.hash))
      problems.push(`${where}: another line has the same token: each needs one of its own`);
    else tokens.push(token);
  }
  return tokens;
}

function parseLine(line: string): NamedToken | null {
  const [, name, role, hash] = /^([^\s\p{C},]{1,100})\s+(viewer|operator)\s+([0-9a-f]{64})$/iu.exec(line) ?? [];
  if (name === undefined || hash === undefined) return null;
  return { name, role: role!.toLowerCase() as NamedToken['role'], hash: hash.toLowerCase() };
}
