import assert from 'node:assert/strict';
import test from 'node:test';
import { InvariantError, UnavailableError } from '../../src/errors.ts';
import { failureOf } from '../../src/stores/postgres/failures.ts';
import { createPostgresStore } from '../../src/stores/postgres/postgres-store.ts';

const withCode = (code: string) => Object.assign(new Error(`write ${code}`), { code });

test('a process without a file descriptor is told so, and not to look at the server', () => {
  const error = Object.assign(new Error('connect EMFILE 127.0.0.1:5432 - Local (undefined:undefined)'), { code: 'EMFILE' });
  const { message } = failureOf('db', error, { hasServed: false });
  assert.match(message, /^db cannot serve: this process has no file descriptor left \(connect EMFILE .*\)\. Raise its limit of open files/);
});

test('a parameter of the URL that the client would pass over is refused by name', () => {
  const open = () => createPostgresStore({ url: 'postgres://u:hush@h/d?requirepeer=postgres', stream: 's', idempotencyTtlSeconds: 1 });
  assert.throws(open, /^ConfigError: The URL of PostgreSQL is not valid: its parameter "requirepeer" has no effect: remove it$/);
});

test('a write to a socket that is closed is waited for, though its code has five letters as the answers of a server have', () => {
  for (const code of ['EPIPE', 'ECONNRESET', '']) {
    assert.ok(failureOf('db', withCode(code), { hasServed: true }) instanceof UnavailableError, code);
  }
  for (const code of ['42601', '22P02', 'P0001']) {
    assert.ok(failureOf('db', withCode(code), { hasServed: true }) instanceof InvariantError, code);
  }
});
