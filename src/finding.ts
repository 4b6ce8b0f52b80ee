/**
 * The result of a check, of the store, the broker or the configuration alike, for `inorder doctor`, `inorder topology
 * check` and a worker's start.
 */
export interface Finding {
  /** Only a failure makes a command exit with 1. */
  readonly level: 'ok' | 'warning' | 'failure';
  /** What was checked. */
  readonly subject: string;
  readonly detail: string;
  /** What to do; null only for `ok`. */
  readonly remedy: string | null;
}

export function ok(subject: string, detail: string): Finding {
  return { level: 'ok', subject, detail, remedy: null };
}

export function warning(subject: string, detail: string, remedy: string): Finding {
  return { level: 'warning', subject, detail, remedy };
}

export function failure(subject: string, detail: string, remedy: string): Finding {
  return { level: 'failure', subject, detail, remedy };
}
