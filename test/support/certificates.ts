/** Certificates for one test, from authorities of its own; OpenSSL makes them, and they end with the test. */
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';

const run = promisify(execFile);
const openssl = findExecutable('openssl');
export const needsOpenssl = { skip: openssl === null ? 'openssl is not installed here' : false };

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface CertificateOptions {
  /** Names and addresses of the server. Default `localhost` and `127.0.0.1`. */
  readonly hosts?: readonly string[];
  /** How long it is valid from now on; less than 0: it has expired. Default 2. */
  readonly days?: number;
}

export class Authority {
  readonly caFile: string;
  readonly #directory: string;
  #issued = 0;

  private constructor(directory: string) {
    this.#directory = directory;
    this.caFile = join(directory, 'ca.pem');
  }

  static async create(t: TestContext): Promise<Authority> {
    const authority = new Authority(await mkdtemp(join(tmpdir(), 'inorder-certificates-')));
    t.after(() => rm(authority.#directory, { recursive: true }));
    await authority.#openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=authority', '-days', '2');
    return authority;
  }

  /** `name` is what the broker takes for the user of a client's certificate. */
  async issue(name: string, { hosts = ['localhost', '127.0.0.1'], days = 2 }: CertificateOptions = {}): Promise<Certificate> {
    const file = `${++this.#issued}`;
    const names = hosts.map((host) => `${/^[\d.]+$/.test(host) ? 'IP' : 'DNS'}:${host}`);
    await writeFile(join(this.#directory, `${file}.ext`), `subjectAltName=${names.join(',')}\n`);
    await this.#openssl('req', ...newKey, '-keyout', `${file}.key`, '-out', `${file}.csr`, '-subj', `/CN=${name}`);
    const signing = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', `${file}.ext`, '-days', String(days)];
    await this.#openssl('x509', '-req', '-in', `${file}.csr`, '-out', `${file}.pem`, ...signing);
    return { certFile: join(this.#directory, `${file}.pem`), keyFile: join(this.#directory, `${file}.key`) };
  }

  async #openssl(...args: readonly string[]): Promise<void> {
    await run(openssl ?? '', args, { cwd: this.#directory });
  }
}

const newKey = ['-newkey', 'rsa:2048', '-nodes'];

/** Puts the files of one certificate in the place of another's, as a renewal does. */
export async function renew(from: Certificate, to: Certificate): Promise<void> {
  await copyFile(from.keyFile, to.keyFile);
  await copyFile(from.certFile, to.certFile);
}
