/**
 * What a check says of one thing that it looked at: the same from the store, the broker and the configuration, so
 * that `inorder doctor`, `inorder topology check` and a worker's start-up print them alike.
 */
export interface Finding {
  /** Only a failure makes a command exit with 1. */
  readonly level: 'ok' | 'warning' | 'failure';
  /** What was looked at. */
  readonly subject: string;
  readonly detail: string;
  /** What to do about it; null only when it is ok. */
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
