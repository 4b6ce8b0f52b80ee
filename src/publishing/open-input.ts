/**
 * Opens a file or standard input as a stream of bytes that can be stopped; gzip is unpacked, whatever the file's name. A
 * file that cannot be opened (its name, its permissions, a directory) is a `ConfigError`; a failure during the
 * reading is an `InputError`.
 */
import { open } from 'node:fs/promises';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ConfigError, InputError } from '../errors.ts';

export interface Input {
  /** For messages: the path, or `standard input`. */
  readonly name: string;
  /** Null if unknown, as for a pipe. */
  readonly sizeBytes: number | null;
  /** The bytes read so far, before unpacking. */
  readonly bytesRead: () => number;
  /** Whether a signal has ended it: then nothing follows from an empty input or from half a line. */
  readonly isStopped: () => boolean;
  /** The unpacked bytes. Ends when `stop` aborts. It can be read once. Throws InputError if it is damaged. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Must be called: an open pipe keeps the process running. */
  close(): void;
}

/** @throws ConfigError when the input cannot be opened. */
export async function openInput(path: string, stdin: NodeJS.ReadableStream, stop: AbortSignal): Promise<Input> {
  // Otherwise it would silently wait for somebody to type.
  if (path === '-' && 'isTTY' in stdin && stdin.isTTY) throw new ConfigError(['FILE is missing, and nothing is piped in']);
  if (path === '-') return asInput('standard input', null, stdin as Readable, stop);
  try {
    const file = await open(path);
    const stat = await file.stat();
    if (stat.isDirectory()) {
      await file.close();
      throw new ConfigError([`${path} is a directory, not a file`]);
    }
    return asInput(path, stat.isFile() ? stat.size : null, file.createReadStream({ highWaterMark: 262_144 }), stop);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    const what = code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${code})`;
    throw new ConfigError([`${path}: ${what}`], { cause: error });
  }
}

function asInput(name: string, sizeBytes: number | null, stream: Readable, stop: AbortSignal): Input {
  let bytesRead = 0;
  async function* raw(): AsyncGenerator<Uint8Array> {
    // Only this ends the wait for a terminal or a pipe.
    const end = () => stream.destroy();
    stop.addEventListener('abort', end, { once: true });
    try {
      if (stop.aborted) return;
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        bytesRead += chunk.length;
        yield chunk;
      }
    } finally {
      stop.removeEventListener('abort', end);
    }
  }
  async function* bytes(): AsyncGenerator<Uint8Array> {
    try {
      yield* unpacked(raw());
    } catch (error) {
      // An input that a signal has ended is not damaged.
      if (!stop.aborted) throw new InputError(`${name}: ${describe(error)}`, { cause: error });
    }
  }
  return { name, sizeBytes, bytesRead: () => bytesRead, isStopped: () => stop.aborted, bytes: bytes(), close: () => void stream.destroy() };
}

/** Detects gzip by the first two bytes, with which no text in UTF-8 begins. */
async function* unpacked(source: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  let head: Uint8Array = new Uint8Array();
  while (head.length < 2) {
    const { done, value } = await source.next();
    if (done) break;
    head = head.length === 0 ? value : Buffer.concat([head, value]);
  }
  async function* whole(): AsyncGenerator<Uint8Array> {
    if (head.length > 0) yield head;
    yield* source;
  }
  if (head[0] !== 0x1f || head[1] !== 0x8b) return yield* whole();
  const gunzip = createGunzip();
  // Errors of the source come out of it as well.
  pipeline(Readable.from(whole(), { objectMode: false }), gunzip, () => undefined);
  yield* gunzip as AsyncIterable<Uint8Array>;
}

function describe(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (!code.startsWith('Z_')) return `it cannot be read any further (${code || message})`;
  return code === 'Z_BUF_ERROR' ? 'its gzip data end too early: is it cut off?' : `its gzip data are broken (${message})`;
}
