/**
 * Finds the variable of ours that a name was probably meant to be. A worker shares its environment with
 * shells, container platforms and other programs, so a stranger's name must pass: what is close counts, not
 * what is similar. `HTTP_PROXY`, `SMTP_HOST`, `LOGNAME` and `REDIS_SERVICE_PORT` are nobody's misspelling.
 *
 * Why not fastest-levenshtein: to it `PREFECTH` is two slips away from `PREFETCH`, as far as another word may be. Neighbours that
 * changed places are one slip here.
 */

import { trimmed } from './given-text.ts';

/** Names that other programs own although they are one letter from ours. */
const strangers = new Set(['HTTPS_PORT', 'HTTPS_HOST', 'LOGLEVEL', 'AMQPS_URL', 'REDIS_URI', 'AMQP_URI', 'SHARD']);

/** Units that people leave off or exchange. */
const unit = /_(MS|MILLIS|SECS?|SECONDS|MINUTES|BYTES|KB|MB)$/;

/** Long names leave room for two slips before they become another word; short ones only for one. */
const longName = 12;

/** The one of `names` that `name` misspells, or null. A name that is spelled right is nobody's near miss. */
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
  // Nobody mistypes the first letter and does not see it; other programs' names often differ just there.
  return names.find((own) => own[0] === name[0] && editDistance(name, own) <= (own.length >= longName ? 2 : 1)) ?? null;
}

/** Insertions, deletions, replacements and swaps of neighbours that make one text of the other. */
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
