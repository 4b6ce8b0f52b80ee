/**
 * Finds the variable that a misspelt name probably stands for. A worker shares its environment with
 * shells, container platforms and other programs, so their names must pass: only close names count, not
 * similar ones. `HTTP_PROXY`, `SMTP_HOST`, `LOGNAME` and `REDIS_SERVICE_PORT` are no misspellings.
 *
 * Why not fastest-levenshtein: it counts `PREFECTH` as two edits from `PREFETCH`, as far as another word may be. Here a swap of
 * neighbours is one edit.
 */

import { trimmed } from './given-text.ts';

/** Names of other programs that are one letter from ours. */
const strangers = new Set(['HTTPS_PORT', 'HTTPS_HOST', 'LOGLEVEL', 'AMQPS_URL', 'REDIS_URI', 'AMQP_URI', 'SHARD']);

/** Units that people omit or confuse. */
const unit = /_(MS|MILLIS|SECS?|SECONDS|MINUTES|BYTES|KB|MB)$/;

/** What the files of TLS are called elsewhere: `AMQP_CA`, `REDIS_SSL_CERT`, `AMQP_CACERTFILE`, `REDIS_TLS_KEY_PATH`. */
const tlsFile = /^(AMQP|REDIS)_(TLS_|SSL_)?(?:CLIENT_|ROOT_)?(CA|CERT|KEY|SERVER_?NAME|SNI)((?:_?(?:CERTS?|CRT|BUNDLE|FILE|PATH|PEM))*)$/;

/** Two edits in a long name do not make another word; in a short one only one edit is allowed. */
const longName = 12;

/** The one of `names` that `name` misspells, or null, also for a correct name. */
export function nearMiss(name: string, names: readonly string[]): string | null {
  if (names.includes(name) || strangers.has(name)) return null;
  const plain = trimmed(name)
    .replace(/^export\s+/, '')
    .replace(/^["']|["']$/g, '')
    .replace(/^INORDER_/, '')
    .replaceAll('-', '_');
  if (names.includes(plain)) return plain;
  const upper = name.toUpperCase();
  const spelledInLowerCase = names.find((own) => own === upper);
  if (spelledInLowerCase !== undefined) return spelledInLowerCase;
  if (name !== upper) return null;
  const otherUnit = names.find((own) => unit.test(own) && own.replace(unit, '') === name.replace(unit, ''));
  if (otherUnit !== undefined) return otherUnit;
  const [, service, prefix, what, rest] = tlsFile.exec(name) ?? [];
  // Another program's REDIS_KEY is a key of its data.
  if (service !== undefined && what !== undefined && (what !== 'KEY' || prefix || rest)) {
    const field = /^S/.test(what) ? 'SERVER_NAME' : `${what}_FILE`;
    return names.find((own) => own === `${service}_TLS_${field}`) ?? null;
  }
  // People notice a wrong first letter; other programs' names often differ only there.
  return names.find((own) => own[0] === name[0] && editDistance(name, own) <= (own.length >= longName ? 2 : 1)) ?? null;
}

/** The number of insertions, deletions, replacements and swaps of neighbours between two texts. */
export function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Infinity;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = last[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1);
      let best = Math.min(last[column]! + 1, current[column - 1]! + 1, replaced);
      const swapped = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (row > 1 && column > 1 && swapped) best = Math.min(best, beforeLast[column - 2]! + 1);
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length]!;
}
