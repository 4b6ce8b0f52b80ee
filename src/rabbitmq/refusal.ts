/**
 * The broker's refusals as sentences for the operator. They contain neither credentials nor any part of a
 * message.
 */
import { messageOf, noDescriptorLeft, UnavailableError } from '../errors.ts';
import { withoutSecrets } from '../printable.ts';
import { tlsFailure } from '../tls.ts';
import { parsedUrl, virtualHostOf } from './management.ts';

/** The reply codes of AMQP 0-9-1 that are used here. */
export const replyCodes = {
  contentTooLarge: 311,
  connectionForced: 320,
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  frameError: 501,
  commandInvalid: 503,
  unexpectedFrame: 505,
  notAllowed: 530,
} as const;

/** The broker's reply code, if the error has one. */
export function replyCodeOf(error: unknown): number | null {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'number' ? code : null;
}

/** Whether the cause of a channel's loss was the exchange or a published event. */
export function blameOf(cause: Error): 'nobody' | 'exchange' | 'event' {
  const code = replyCodeOf(cause);
  if (code === replyCodes.notFound || code === replyCodes.accessRefused) return 'exchange';
  if (code === replyCodes.preconditionFailed || code === replyCodes.contentTooLarge) return 'event';
  return code !== null && code >= replyCodes.frameError && code <= replyCodes.unexpectedFrame ? 'event' : 'nobody';
}

/** The broker's own words, without the client library's wrapping; of a missing permission which it is, and what gives it. */
export function brokerWords(error: unknown): string {
  const { words, remedy } = brokerAnswer(error);
  return remedy === null ? words : `${words}: ${remedy}`;
}

/** What the broker's refusal means; `what` was tried. */
export function refused(what: string, cause: unknown): UnavailableError {
  return new UnavailableError(`${what}: ${brokerWords(cause)}`, { cause, remedy: brokerAnswer(cause).remedy });
}

/** `remedy`: what gives the permission that is missing; null: it is something else. */
export function brokerAnswer(error: unknown): { readonly words: string; readonly remedy: string | null } {
  const text = error instanceof Error ? error.message || String((error as { code?: unknown }).code ?? error.name) : String(error);
  const words = /with message "(?:[A-Z_]+ - )?(.*)"$/s.exec(text)?.[1] ?? text;
  const [, named, kind, name, vhost, user] = /(?:(\w+) )?access to (\w+) '(.*)' in vhost '(.*)' refused for user '(.*)'/s.exec(words) ?? [];
  if (name === undefined) return { words: withoutSecrets(words), remedy: null };
  const pattern = `^${name.replaceAll(/[^\w-]/g, String.raw`\$&`)}$`;
  const right = named ?? rightRefused(error as { classId?: number; methodId?: number }, kind);
  const remedy = `add ${pattern} to the ${right} permission of user '${user}' (\`inorder permissions\` prints what each role needs)`;
  return { words: `no access to ${kind} '${name}' in virtual host '${vhost}'`, remedy };
}

/** The permission that a method of AMQP needs; before 4.0 the broker does not name it. */
function rightRefused({ classId, methodId }: { classId?: number; methodId?: number }, kind: string | undefined): string {
  const method = `${classId}.${methodId}`;
  // Declared is a queue or an exchange, which may name another exchange in its arguments: that has to be writable, and itself readable.
  if (method === '40.10') return 'configure (where it is there: write and read)';
  if (method === '50.10') return kind === 'queue' ? 'configure (where it is there: read)' : 'write';
  if (method === '50.20' || method === '50.50') return kind === 'queue' ? 'write' : 'read';
  if (method === '60.20' || method === '60.70' || method === '50.30') return 'read';
  return method === '60.40' ? 'write' : 'configure';
}

/** Why there is no connection. `url` is the address that was tried. */
export function describeConnectFailure(error: unknown, url: unknown): string {
  const remedy = connectRemedy(error);
  return `${whyNotConnected(error, url)}${remedy === null ? '' : `. ${remedy}`}`;
}

/** The same of each node that was tried, with what to do. */
export function notConnected(failures: readonly (readonly [error: unknown, url: unknown])[]): UnavailableError {
  const why = failures.map(([error, url]) => whyNotConnected(error, url)).join('; ');
  const remedy = [...new Set(failures.map(([error]) => connectRemedy(error)))].filter((one) => one !== null).join(' ') || null;
  return new UnavailableError(`${why}${remedy === null ? '' : `. ${remedy}`}`, { cause: failures.at(-1)?.[0], remedy });
}

/** Null: what to do is in the words, or is not known. */
function connectRemedy(error: unknown): string | null {
  const { words, remedy } = noDescriptorLeft;
  return tlsFailure(error, 'AMQP_URL')?.remedy ?? (words.test(messageOf(error)) ? remedy : null);
}

function whyNotConnected(error: unknown, url: unknown): string {
  const where = describeAddress(url);
  const text = error instanceof Error ? error.message : String(error);
  const tls = tlsFailure(error, 'AMQP_URL');
  if (tls !== null) return `the broker at ${where} cannot be reached: ${tls.meaning}`;
  if (/ACCESS[-_]REFUSED.*EXTERNAL/s.test(text)) return `the broker at ${where} has no user for the certificate, or no access for it`;
  if (/ACCESS[-_]REFUSED/.test(text)) return `the broker at ${where} refuses the user name or the password`;
  if (text.startsWith('Expected ConnectionOpenOk')) {
    const vhost = JSON.stringify(virtualHostOf(url));
    return `the broker at ${where} does not open the virtual host ${vhost}: it does not exist, or the user has no access to it, or it is at its limit of connections`;
  }
  // The same cause has different messages, depending on whether a read or a write fails.
  const ends = /\b(ECONNRESET|EPIPE)\b|^Socket closed abruptly/.test(text);
  if (ends) return `the broker at ${where} ends the connection before it is open${whyEnded(url)}`;
  if (text === 'connect ETIMEDOUT') return `the broker at ${where} does not answer`;
  const { words, meaning } = noDescriptorLeft;
  if (words.test(text)) return `the broker at ${where} cannot be reached: ${meaning} (${withoutSecrets(text)})`;
  return `the broker at ${where} cannot be reached: ${brokerWords(error)}`;
}

/** Whether only a change at the broker or in the configuration helps. */
export function isRefusedLogin(error: unknown): boolean {
  const text = error instanceof Error ? error.message : String(error);
  return /ACCESS[-_]REFUSED|^Expected ConnectionOpenOk/.test(text);
}

/** The alert of TLS may be lost with the connection. */
function whyEnded(url: unknown): string {
  if (parsedUrl(url)?.protocol === 'amqp:') return ' (a port for TLS needs amqps://)';
  return ' (does it accept what AMQP_TLS_CERT_FILE and AMQP_TLS_KEY_FILE name?)';
}

function describeAddress(url: unknown): string {
  const host = parsedUrl(url)?.host;
  return host === undefined || host === '' ? 'the given address' : host;
}
