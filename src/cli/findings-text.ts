/** How `inorder doctor` and `inorder topology check` print what they found: one line for each finding. */
import type { Finding } from '../finding.ts';
import type { ExitCode } from './command.ts';

/** `failure  topology: ... -> what to do`. */
export function findingAsText({ level, subject, detail, remedy }: Finding): string {
  return `${level.padEnd(8)} ${subject}: ${detail}${remedy === null ? '' : ` -> ${remedy}`}\n`;
}

export function findingAsJson(finding: Finding): string {
  return `${JSON.stringify(finding)}\n`;
}

/** Warnings are for people: only a failure fails a script. */
export function exitCodeOf(findings: readonly Finding[]): ExitCode {
  return findings.some(({ level }) => level === 'failure') ? 1 : 0;
}
