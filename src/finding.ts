/**
 * The result of a check, of the store, the broker or the configuration alike, for `inorder doctor`, `inorder topology
 * check` and a worker's start; and the check that is the same for every store: of its round trips and its clock.
 */
import { InorderError, messageOf } from './errors.ts';
import type { Time } from './time.ts';

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

/**
 * A failure that an error tells: its own remedy if it says one, else the usual one, never both. `before` is what the detail begins with,
 * by default nothing.
 */
export function failureBy(subject: string, error: unknown, usual: string, before = ''): Finding {
  const remedy = error instanceof InorderError ? error.remedy : null;
  return failure(subject, before + withoutRemedy(messageOf(error), remedy), remedy ?? usual);
}

/** What is said, without the remedy if it ends with that. */
export function withoutRemedy(said: string, remedy: string | null): string {
  return remedy === null || !said.endsWith(remedy) ? said : said.slice(0, -remedy.length).replace(/[.:] $/, '');
}

/** Each commit costs a round trip: at this median a shard commits about a hundred batches per second. */
const slowMs = 10;
/** A larger difference makes ages and lags wrong, which compare the two clocks. */
const clockToleranceMs = 2_000;
const questions = 15;

/**
 * Measures a store's round-trip time and the difference of its clock from ours, by asking it for the time repeatedly. `readClock`
 * returns the store's time in milliseconds since 1970; its errors are passed on.
 */
export async function measureRoundTrips(store: string, readClock: () => Promise<number>, time: Time): Promise<readonly Finding[]> {
  const tripsMs: number[] = [];
  let offsetMs = 0;
  for (let asked = 0; asked < questions; asked++) {
    const [startedMs, startedAtMs] = [time.nowMs(), time.wallMs()];
    const theirMs = await readClock();
    const tripMs = time.nowMs() - startedMs;
    // The fastest answer gives the best estimate of the clock.
    if (tripsMs.every((other) => tripMs < other)) offsetMs = theirMs - (startedAtMs + tripMs / 2);
    tripsMs.push(tripMs);
  }
  return [latencyFinding(store, tripsMs), clockFinding(store, offsetMs)];
}

function latencyFinding(store: string, tripsMs: readonly number[]): Finding {
  const subject = `${store} latency`;
  const sorted = [...tripsMs].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] as number;
  const detail = `${median.toFixed(1)} ms for a round trip, ${(sorted.at(-1) as number).toFixed(1)} ms at most, of ${sorted.length}`;
  if (median <= slowMs) return ok(subject, detail);
  return warning(
    subject,
    `${detail}: every commit waits for one`,
    'Run the workers near the store, and look for slow commands and a busy machine.',
  );
}

function clockFinding(store: string, offsetMs: number): Finding {
  const subject = `${store} clock`;
  const offset = Math.abs(offsetMs) < 1_000 ? `${Math.round(Math.abs(offsetMs))} ms` : `${(Math.abs(offsetMs) / 1_000).toFixed(1)} s`;
  if (Math.abs(offsetMs) <= clockToleranceMs) return ok(subject, `${offset} from this machine's`);
  const detail = `It is ${offset} ${offsetMs > 0 ? 'ahead of' : 'behind'} this machine's: ages and times in reports are wrong by that.`;
  return warning(subject, detail, 'Let both machines take their time from NTP.');
}
