/**
 * File descriptors. Each connection takes one, and so does each open file; without any left nothing can be connected or accepted.
 * Node.js raises its own soft limit to the hard one at its start, where it may.
 */
import { readFileSync } from 'node:fs';
import { failure, type Finding, ok } from './finding.ts';

/** What an error says of a process that has none left. */
export const noDescriptorLeft = {
  words: /\bEMFILE\b/,
  meaning: 'this process has no file descriptor left',
  remedy: 'Raise its limit of open files (`ulimit -n`, LimitNOFILE of systemd, ulimits of Docker).',
} as const;

/** Whether this process may open `needed` of them; ok where the system does not say how many it may. */
export function openFilesFinding(needed: number, limits = systemLimits()): Finding {
  const subject = 'open files';
  const [, soft] = /^Max open files +(\d+)/m.exec(limits) ?? [];
  if (soft === undefined) return ok(subject, 'no limit is known');
  if (Number(soft) >= needed) return ok(subject, `at most ${soft}, and a worker needs ${needed}`);
  return failure(subject, `this process may have ${soft}, and a worker needs ${needed}`, noDescriptorLeft.remedy);
}

/** As Linux shows the limits of a process; elsewhere empty. */
function systemLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}
