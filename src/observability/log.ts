/**
 * The log: JSON lines on standard output about everything that an operator may have to act on. Guarantees that it
 * contains no credentials of URLs and no secrets in what was thrown, and that a log that cannot be written (a closed pipe, a full
 * disk, a slow reader) stops nothing. Callers must not log payloads or states.
 */
import { writeSync } from 'node:fs';
import { type Logger, pino } from 'pino';
import type { LogLevel } from '../config/config.ts';
import { messageOf } from '../errors.ts';
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import { redactUrls, withoutSecrets } from '../printable.ts';
import { isoNow, systemTime, type Time, type Timer } from '../time.ts';

export type LogFields = Readonly<Record<string, unknown>>;

/** The logger interface. An `Error` is logged in the field `error`. */
export interface Log {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** In every line. */
  readonly service: string;
  /** The output. Default: standard output. */
  readonly writeLine?: (line: string) => void;
  /** Default: the system's clock. */
  readonly time?: Time;
}

/** A log whose level can be changed while it is in use. */
export interface AdjustableLog extends Log {
  level: LogLevel;
}

export function createLog({ level, service, writeLine, time = systemTime }: LogOptions): AdjustableLog {
  const stdout = new LineWriter(1, time);
  const write = writeLine ?? ((line: string) => stdout.write(line));
  const logger: Logger = pino(
    {
      level,
      base: { service },
      messageKey: 'message',
      timestamp: () => `,"time":"${isoNow(time)}"`,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: (error: unknown) => describeError(error, logger.level === 'debug') },
    },
    { write: (line) => write(redactUrls(line)) },
  );
  return {
    get level() {
      return logger.level as LogLevel;
    },
    set level(next) {
      logger.level = next;
    },
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
  };
}

interface DescribedError {
  readonly code?: string;
  readonly message: string;
  readonly cause?: DescribedError;
  readonly stack?: string;
}

/** A chain of causes may be long or circular. */
const maxCauses = 5;
const maxStackLength = 4_000;

// Field by field, because errors of client libraries contain arguments of commands and whole messages.
function describeError(error: unknown, withStack: boolean, causes = maxCauses): DescribedError {
  if (!(error instanceof Error)) return { message: messageOf(error) };
  const code: unknown = 'code' in error ? error.code : undefined;
  return {
    ...(typeof code === 'string' || typeof code === 'number' ? { code: String(code) } : {}),
    message: messageOf(error),
    ...(error.cause === undefined || causes === 0 ? {} : { cause: describeError(error.cause, withStack, causes - 1) }),
    ...(withStack && error.stack !== undefined ? { stack: withoutSecrets(error.stack, maxStackLength) } : {}),
  };
}

const hourMs = 3_600_000;
const maxEntities = 1_000;

/** Limits a log line to once per entity and hour. Memory is bounded: beyond it the oldest entities may be logged again. */
export class HourlyPerEntity {
  /** The time of the last line by entity, the oldest first. */
  readonly #saidMs = new Map<string, number>();

  /** True when the line is due. `nowMs` is monotonic. */
  isDue(entity: EntityRef, nowMs: number): boolean {
    const key = entityKey(entity);
    const saidMs = this.#saidMs.get(key);
    if (saidMs !== undefined && nowMs - saidMs < hourMs) return false;
    this.#saidMs.delete(key);
    this.#saidMs.set(key, nowMs);
    if (this.#saidMs.size > maxEntities) for (const oldest of this.#saidMs.keys()) return this.#saidMs.delete(oldest);
    return true;
  }
}

const maxPendingBytes = 1_048_576;
const retryMs = 50;

/**
 * Writes lines to a file descriptor; never throws, emits or waits. Writing is synchronous, so that the last
 * line before an exit is not lost. Lines that do not fit into a full pipe are kept, up to a limit, and written
 * later; lines that do not fit on a full disk are dropped. Once the reader has closed the pipe, all lines are
 * dropped.
 */
export class LineWriter {
  readonly #fd: number;
  readonly #time: Time;
  /** Lines that are not written yet, oldest first. */
  #pending: Buffer = Buffer.alloc(0);
  #closed = false;
  #retry: Timer | null = null;

  constructor(fd: number, time: Time) {
    this.#fd = fd;
    this.#time = time;
  }

  /** `line` ends with its line feed. */
  write(line: string): void {
    if (this.#closed || this.#pending.length > maxPendingBytes) return;
    const bytes = Buffer.from(line);
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    this.#flush();
  }

  #flush(): void {
    try {
      while (this.#pending.length > 0) this.#pending = this.#pending.subarray(writeSync(this.#fd, this.#pending));
    } catch (error) {
      this.#failed((error as NodeJS.ErrnoException).code);
    }
  }

  #failed(code: string | undefined): void {
    if (code === 'EAGAIN') {
      const again = () => {
        this.#retry = null;
        this.#flush();
      };
      this.#retry ??= this.#time.after(retryMs, again, { unref: true });
      return;
    }
    // A closed pipe stays closed; other errors (ENOSPC, EIO) may pass.
    this.#closed = code === 'EPIPE' || code === 'EBADF';
    this.#pending = Buffer.alloc(0);
  }
}
