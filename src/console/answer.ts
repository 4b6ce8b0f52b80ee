/**
 * Answers of the console: each carries the headers that keep a browser from doing more with it than is meant, and
 * none is kept by anybody.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ConfigError } from '../errors.ts';

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly content: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

/** No script, style or connection but from here, no frame around it, and no text that becomes markup by way of the DOM. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

const protection: Readonly<Record<string, string>> = {
  'content-security-policy': policy,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
};

export const maxBodyBytes = 65_536;

export function send({ method }: IncomingMessage, response: ServerResponse, { status, contentType, content, headers }: Answer): void {
  response.writeHead(status, { ...protection, 'content-type': contentType, 'content-length': Buffer.byteLength(content), ...headers });
  response.end(method === 'HEAD' ? undefined : content);
}

export function json(status: number, value: object, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, contentType: 'application/json; charset=utf-8', content: `${JSON.stringify(value)}\n`, headers };
}

/** The object in the body. @throws ConfigError when it is none, or too large. */
export async function readJsonObject(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  // A form of another site can send other types without asking first.
  if (!/^application\/json(;|$)/.test(request.headers['content-type'] ?? ''))
    throw new ConfigError(['the content type must be application/json']);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new ConfigError([`the body is over ${maxBodyBytes} bytes`]);
    chunks.push(chunk);
  }
  const value = parse(Buffer.concat(chunks).toString('utf8'));
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new ConfigError(['the body must be a JSON object']);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
