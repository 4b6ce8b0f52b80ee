/**
 * The file of TOKENS_FILE: one user a line, with name, role and the SHA-256 of the token, apart by white space. Empty lines, and those
 * that begin with `#`, say nothing. A name may have several lines, so that a token can be exchanged without a gap. No message shows
 * more of the file than the number of a line: somebody may have put the token itself there.
 */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { messageOf } from '../errors.ts';
import type { Time } from '../time.ts';
import type { HttpConfig, NamedToken } from './config.ts';
import { readGiven } from './given-text.ts';

type OtherTokens = Pick<HttpConfig, 'adminToken' | 'readToken'>;

/** Its users, and into `problems` whatever is wrong with it. */
export function readTokens(path: string, { adminToken, readToken }: OtherTokens, problems: string[]): readonly NamedToken[] {
  const text = readGiven('TOKENS_FILE', path, problems) ?? '';
  const tokens: NamedToken[] = [];
  /** By the hash of the token. */
  const holders = new Map<string, string>();
  for (const [name, token] of Object.entries({ ADMIN_TOKEN: adminToken, READ_TOKEN: readToken }))
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

export interface TokensLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** A look costs a system call, and each request needs the users. */
const lookEveryMs = 1_000;

/** The users of the file as it was within the last second. While it cannot be used those before it stay; each change is logged once. */
export class TokensFile {
  readonly #path: string;
  readonly #others: OtherTokens;
  readonly #time: Pick<Time, 'nowMs'>;
  readonly #log: TokensLog | undefined;
  #tokens: readonly NamedToken[];
  #seen = '';
  #lookedMs = -Infinity;

  /** `tokens`: what was read of it before. */
  constructor(
    path: string,
    { tokens, ...others }: OtherTokens & Pick<HttpConfig, 'tokens'>,
    time: Pick<Time, 'nowMs'>,
    log: TokensLog | undefined,
  ) {
    this.#path = path;
    this.#others = others;
    this.#time = time;
    this.#log = log;
    this.#tokens = tokens;
  }

  /** Another array when the file has changed. */
  read(): readonly NamedToken[] {
    const nowMs = this.#time.nowMs();
    if (nowMs - this.#lookedMs < lookEveryMs) return this.#tokens;
    this.#lookedMs = nowMs;
    const now = this.#mark();
    if (now === this.#seen) return this.#tokens;
    const isFirst = this.#seen === '';
    this.#seen = now;
    const problems: string[] = [];
    const tokens = readTokens(this.#path, this.#others, problems);
    if (problems.length > 0) {
      this.#log?.warn(
        { problems },
        'TOKENS_FILE cannot be used, and the users that it had before stay; the one line `# nobody` ends them all',
      );
    } else {
      this.#tokens = tokens;
      if (!isFirst) this.#log?.info({ users: tokens.length }, 'TOKENS_FILE has changed, and was read again');
    }
    return this.#tokens;
  }

  /** What changes whenever the file is written, replaced or removed. */
  #mark(): string {
    try {
      const { ino, size, mtimeNs, ctimeNs } = statSync(this.#path, { bigint: true });
      return [ino, size, mtimeNs, ctimeNs].join(' ');
    } catch (error) {
      return messageOf(error);
    }
  }
}
