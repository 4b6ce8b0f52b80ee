/** What an error of Redis is taken for, in the words that servers of 6.2 and 7.0 use. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isEntityFailure, mayServeNextTime, unavailable } from '../../src/stores/redis/failures.ts';

const digest = 'd15ed50a418b363a9e8536d8ec3ecf4f8565dabb';
const since70 = (words: string) => `${words} script: ${digest}, on @user_script:1.`;
const before70 = (words: string) => `ERR Error running script (call to f_${digest}): @user_script:12: @user_script: 12: ${words}`;

function reply(message: string): Error {
  const error = new Error(message);
  error.name = 'ReplyError';
  return error;
}

const refusals: readonly (readonly [message: string, said: RegExp])[] = [
  [since70("OOM command not allowed when used memory > 'maxmemory'."), /reached maxmemory/],
  [before70("-OOM command not allowed when used memory > 'maxmemory'.   "), /reached maxmemory/],
  [since70("READONLY You can't write against a read only replica."), /is a replica/],
  [before70("-READONLY You can't write against a read only replica.   "), /is a replica/],
  [since70('NOREPLICAS Not enough good replicas to write.'), /min-replicas-to-write/],
  [before70('-MISCONF Errors writing to the AOF file: No space left on device'), /cannot write its snapshots/],
  ["NOPERM this user has no permissions to run the 'hdel' command", /may not do this .* ACL SETUSER USER \+hdel /],
  ["NOPERM User w-1 has no permissions to run the 'script|load' command", /ACL SETUSER w-1 \+script\|load /],
  ['NOPERM this user has no permissions to access one of the keys used as arguments', /ACL SETUSER USER ~inorder:STREAM:\* /],
  [
    since70("ERR The user executing the script can't access at least one of the keys mentioned in the command arguments"),
    /~inorder:STREAM:\* /,
  ],
  // From 7.2 on.
  [since70("ERR ACL failure in script: User w has no permissions to run the 'hset' command"), /ACL SETUSER w \+hset /],
  // Without the script there is no telling which.
  [since70("ERR The user executing the script can't run this command or subcommand"), /\+COMMAND /],
  [before70("The user executing the script can't run this command or subcommand"), /\+COMMAND /],
  ['WRONGPASS invalid username-password pair or user is disabled.', /user and password are not accepted/],
  [before70('Lua script attempted to access a non local key in a cluster node'), /CLUSTER INFO/],
  [since70('ERR Script attempted to access a non local key in a cluster node'), /CLUSTER INFO/],
  ['LOADING Redis is loading the dataset in memory', /loading its data/],
  ['NOSCRIPT No matching script. Please use EVAL.', /SCRIPT FLUSH/],
];

describe('a server that refuses', () => {
  for (const [message, said] of refusals) {
    it(`is the store's failure and no entity's: ${message.slice(0, 120)}`, () => {
      const error = reply(message);
      assert.equal(isEntityFailure(error), false);
      assert.match(unavailable('redis://localhost', error).message, said);
    });
  }
});

it('that a name with several addresses is not reached is told by its code, for the error has no message', () => {
  const error = Object.assign(new AggregateError([new Error('connect ECONNREFUSED ::1:6379')]), { code: 'ECONNREFUSED' });
  assert.match(unavailable('Redis at localhost:6379', error).message, /^Redis at localhost:6379 cannot be reached: ECONNREFUSED\. Is it/);
});

describe('a key of another type', () => {
  for (const wrap of [since70, (words: string) => before70(`-${words}`)]) {
    const message = wrap('WRONGTYPE Operation against a key holding the wrong kind of value');
    it(`is the failure of its entity alone: ${message.slice(0, 60)}`, () => assert.equal(isEntityFailure(reply(message)), true));
  }
});

describe('a new connection', () => {
  it('is worth its while where the address may lead to the master by now, or the data be loaded', () => {
    const words = "READONLY You can't write against a read only replica.";
    for (const message of [words, since70(words), before70(`-${words}`), 'LOADING Redis is loading the dataset in memory']) {
      assert.equal(mayServeNextTime(reply(message)), true, message);
    }
  });

  it('is not, where the same server would refuse again', () => {
    for (const message of [before70("-OOM command not allowed when used memory > 'maxmemory'."), 'ERR a word with READONLY in it']) {
      assert.equal(mayServeNextTime(reply(message)), false, message);
    }
  });
});
