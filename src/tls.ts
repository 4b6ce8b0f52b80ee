/**
 * TLS as a client of the broker and of Redis. Guarantees that the files are read at each connect, so that renewed certificates need
 * no restart; that renewed files that cannot be used (a certificate without its key yet) leave those before them in use, with a
 * warning; and that the server's certificate is always verified. What a failure of TLS means is said here for PostgreSQL as well,
 * whose client reads the files that its URL names.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect, type ConnectionOptions, createSecureContext, type SecureContext } from 'node:tls';
import { ConfigError, messageOf } from './errors.ts';
import { type Time, type Timer, within } from './time.ts';

export interface TlsFiles {
  /** PEM with the authorities that are trusted instead of those of Node.js; null: those of Node.js. */
  readonly caFile: string | null;
  /** PEM with the client's certificate, and the intermediate ones behind it; null: none is shown. */
  readonly certFile: string | null;
  /** PEM with the private key of that certificate, not encrypted. */
  readonly keyFile: string | null;
  /** The name in the server's certificate; null: the host in the URL. */
  readonly serverName: string | null;
}

/** What a program calls them, and what an operator does. */
type TlsNames = Readonly<Record<keyof TlsFiles, string>>;
const optionNames: TlsNames = { caFile: 'tls.caFile', certFile: 'tls.certFile', keyFile: 'tls.keyFile', serverName: 'tls.serverName' };
export const tlsVariables = { AMQP: variablesOf('AMQP'), REDIS: variablesOf('REDIS') };

function variablesOf<Service extends 'AMQP' | 'REDIS'>(service: Service) {
  return {
    caFile: `${service}_TLS_CA_FILE`,
    certFile: `${service}_TLS_CERT_FILE`,
    keyFile: `${service}_TLS_KEY_FILE`,
    serverName: `${service}_TLS_SERVER_NAME`,
  } as const satisfies TlsNames;
}

/** Every reason why the files cannot be used now. */
export function tlsProblems(files: Partial<TlsFiles>, names: TlsNames = optionNames): readonly string[] {
  try {
    if (namesFiles(files)) readFiles(files, names);
    return [];
  } catch (error) {
    return error instanceof ConfigError ? error.problems : [messageOf(error)];
  }
}

/**
 * Options of a socket. With files, `secureContext` is a getter: whoever connects again with the same object uses the files as they
 * are then.
 * @throws ConfigError if they cannot be used now.
 */
export function tlsOptions(files: Partial<TlsFiles>, warn: (message: string) => void): ConnectionOptions {
  // Said outright, so that NODE_TLS_REJECT_UNAUTHORIZED=0 does not reach here.
  const always = { rejectUnauthorized: true, ...(files.serverName == null ? {} : { servername: files.serverName }) };
  if (!namesFiles(files)) return always;
  let used = readFiles(files, optionNames);
  return {
    ...always,
    get secureContext() {
      try {
        used = readFiles(files, optionNames);
      } catch (error) {
        warn(`the files for TLS cannot be used, and those before them stay in use: ${messageOf(error)}`);
      }
      return used;
    },
  };
}

/** Without any, OpenSSL would be made to load the authorities of Node.js, which takes 50 ms. */
function namesFiles({ caFile, certFile, keyFile }: Partial<TlsFiles>): boolean {
  return caFile != null || certFile != null || keyFile != null;
}

/** @throws ConfigError with every problem. */
function readFiles({ caFile, certFile, keyFile }: Partial<TlsFiles>, names: TlsNames): SecureContext {
  const problems: string[] = [];
  const read = <Parsed>(name: string, path: string | null | undefined, kind: string, parse: (pem: string) => Parsed) => {
    if (path == null) return null;
    let pem: string | null = null;
    try {
      pem = readFileSync(path, 'utf8');
      return { pem, parsed: parse(pem) };
    } catch (error) {
      const why = pem === null ? `the file cannot be read (${codeOf(error)})` : `it holds no ${kind} in PEM`;
      problems.push(`${name} is ${JSON.stringify(path)}: ${why}`);
      return null;
    }
  };
  const ca = read(names.caFile, caFile, 'certificate', (pem) => new X509Certificate(pem));
  const cert = read(names.certFile, certFile, 'certificate', (pem) => new X509Certificate(pem));
  const key = read(names.keyFile, keyFile, 'private key without a passphrase', createPrivateKey);
  if ((certFile == null) !== (keyFile == null)) {
    const [set, missing] = certFile == null ? [names.keyFile, names.certFile] : [names.certFile, names.keyFile];
    problems.push(`${set} is set, and ${missing} is not: a certificate and its key go together, set both`);
  }
  if (cert !== null && key !== null && !cert.parsed.checkPrivateKey(key.parsed)) {
    problems.push(`${names.keyFile} is ${JSON.stringify(keyFile)}: it is not the key of the certificate in ${JSON.stringify(certFile)}`);
  }
  if (problems.length > 0) throw new ConfigError(problems);
  try {
    return createSecureContext({ ...(ca && { ca: ca.pem }), ...(cert && { cert: cert.pem }), ...(key && { key: key.pem }) });
  } catch (error) {
    // What only OpenSSL finds, such as a damaged certificate behind the first.
    const given = [names.caFile, names.certFile, names.keyFile].filter((_, index) => [ca, cert, key][index] !== null);
    throw new ConfigError([`${given.join(', ')}: the files cannot be used (${briefly(messageOf(error))})`]);
  }
}

/** What can be done about a connection, by the URL that names the server. */
const remedies = {
  AMQP_URL: {
    authority: 'Name its authority with AMQP_TLS_CA_FILE.',
    certificate: 'Name one that it trusts with AMQP_TLS_CERT_FILE and AMQP_TLS_KEY_FILE.',
    host: 'Use a name in it in the URL, or give it with AMQP_TLS_SERVER_NAME.',
    plain: 'Name the port for TLS (5671, of the management API 15671), or use a URL without it (amqp://, http://).',
  },
  REDIS_URL: {
    authority: 'Name its authority with REDIS_TLS_CA_FILE.',
    certificate: 'Name one that it trusts with REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE.',
    host: 'Use a name in it in the URL, or give it with REDIS_TLS_SERVER_NAME.',
    plain: 'Name the port for TLS, or use redis:// instead of rediss://.',
  },
  DATABASE_URL: {
    authority: 'Name its authority with sslrootcert in DATABASE_URL.',
    certificate: 'Name one that it trusts with sslcert and sslkey in DATABASE_URL.',
    host: 'Use a name in it in DATABASE_URL.',
    plain: 'Name the port for TLS, or remove sslnegotiation=direct from DATABASE_URL.',
  },
};
type Remedies = (typeof remedies)[keyof typeof remedies];

interface Condition {
  /** Matches the code or the message: some clients pass on only one of them. */
  readonly matches: RegExp;
  readonly meaning: string;
  readonly remedy: (of: Remedies) => string;
}

const conditions: readonly Condition[] = [
  { matches: /CERT_HAS_EXPIRED|certificate has expired/, meaning: 'its certificate has expired', remedy: () => 'Renew it at the server.' },
  {
    matches: /CERT_NOT_YET_VALID|certificate is not yet valid/,
    meaning: 'its certificate is not valid yet',
    remedy: () => 'Correct the clock of this machine, or the certificate.',
  },
  {
    matches: /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate's altnames/,
    meaning: 'its certificate is for another name',
    remedy: ({ host }) => host,
  },
  {
    matches: /SELF_SIGNED_CERT|UNABLE_TO_(VERIFY|GET)|self-signed certificate|unable to (verify|get)/,
    meaning: 'its certificate is from an authority that is not trusted',
    remedy: ({ authority }) => authority,
  },
  {
    matches: /ALERT_CERTIFICATE_REQUIRED|ALERT_HANDSHAKE_FAILURE|alert (certificate required|handshake failure)/,
    meaning: 'it demands a certificate from its clients',
    remedy: ({ certificate }) => certificate,
  },
  {
    matches: /ALERT_(UNKNOWN_CA|\w*CERTIFICATE)|alert (unknown ca|\w* ?certificate)/,
    meaning: 'it does not accept the certificate of this client',
    remedy: ({ certificate }) => certificate,
  },
  {
    matches: /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|wrong version number|packet length too long/,
    meaning: 'what answers at this port is not TLS',
    remedy: ({ plain }) => plain,
  },
];

/** What a failed connection means if TLS is the cause, as `meaning (words)`, and a sentence with what to do; null if it is not. */
export function tlsFailure(error: unknown, url: keyof typeof remedies): { readonly meaning: string; readonly remedy: string } | null {
  const words = messageOf(error);
  const found = conditions.find(({ matches }) => matches.test(`${codeOf(error)} ${words}`));
  return found === undefined ? null : { meaning: `${found.meaning} (${briefly(words)})`, remedy: found.remedy(remedies[url]) };
}

/** A server refuses a client's certificate after the handshake, and says nothing if it accepts it. */
const refusalMs = 500;

/** What fails at a new connection, for clients that keep it to themselves; null: nothing within the time. */
export async function connectFailure(options: ConnectionOptions, limitMs: number, time: Time): Promise<Error | null> {
  const socket = connect(options);
  let accepted: Timer | undefined;
  const failed = new Promise<Error | null>((resolve) => {
    socket.on('error', resolve).once('close', () => resolve(null));
    socket.once('secureConnect', () => (accepted = time.after(refusalMs, () => resolve(null))));
  });
  try {
    return await within(time, failed, limitMs);
  } finally {
    accepted?.cancel();
    socket.destroy();
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** OpenSSL's `C0DC…:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/…:354:` is its fifth part to a reader. */
function briefly(words: string): string {
  return (/:error:[0-9A-F]+:[^:]*:[^:]*:([^:]+):/.exec(words)?.[1] ?? words).trim();
}
