/**
 * Opens what is to be published, a file or standard input, as a stream of bytes that can be stopped. What a
 * person gets wrong about a file (its name, its permissions, its being a directory) is a `ConfigError`.
 */
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { ConfigError } from '../errors.ts';

export interface Input {
  /** For messages: the path, or `standard input`. */
  readonly name: string;
  /** Null when nobody can know: a pipe. */
  readonly sizeBytes: number | null;
  /** How far it has been read. */
  readonly bytesRead: () => number;
  /** Ends when `stop` aborts. It can be read once. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** An open pipe keeps the process alive, also when nobody reads it any more. */
  close(): void;
}

/** @throws ConfigError when there is nothing that can be read. */
export async function openInput(path: string, stdin: NodeJS.ReadableStream, stop: AbortSignal): Promise<Input> {
  // Without a word it would wait for somebody to type.
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
  async function* bytes(): AsyncGenerator<Uint8Array> {
    // Nothing else ends the wait for a terminal or a pipe.
    const end = () => stream.destroy();
    stop.addEventListener('abort', end, { once: true });
    try {
      if (stop.aborted) return;
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        bytesRead += chunk.length;
        yield chunk;
      }
    } catch (error) {
      if (!stop.aborted) throw error;
    } finally {
      stop.removeEventListener('abort', end);
    }
  }
  return { name, sizeBytes, bytesRead: () => bytesRead, bytes: bytes(), close: () => void stream.destroy() };
}
