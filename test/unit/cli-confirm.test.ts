import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import test from 'node:test';
import { confirm } from '../../src/cli/change.ts';
import { ConfigError } from '../../src/errors.ts';
import { keptIo } from '../support/command-io.ts';

/** Somebody at a terminal. */
function atTerminal() {
  const { io, out, stop } = keptIo();
  const keyboard = Object.assign(new PassThrough(), { isTTY: true });
  return { io: { ...io, isTTY: true, stdin: keyboard }, out, stop, keyboard };
}

test('only a yes is one', async () => {
  for (const [typed, goesOn] of [
    ['y\n', true],
    ['Yes\r\n', true],
    ['n\n', false],
    ['\n', false],
    ['yesterday\n', false],
  ] as const) {
    const { io, keyboard } = atTerminal();
    const answer = confirm('Sure?', false, io);
    keyboard.write(typed);
    assert.equal(await answer, goesOn, JSON.stringify(typed));
  }
});

test('an input that ends without an answer is a no', async () => {
  const { io, keyboard, out } = atTerminal();
  const answer = confirm('Sure?', false, io);
  keyboard.end();
  assert.equal(await answer, false);
  assert.equal(out.stdout, 'Sure? [y/N] \n');
});

test('a signal ends the question, and a yes after it counts no more', async () => {
  const asked = atTerminal();
  const signal = asked.io.takeSignals();
  const answer = confirm('Sure?', false, asked.io, signal);
  asked.stop();
  asked.keyboard.write('y\n');
  assert.equal(await answer, false);
  // Also one that came before the question.
  assert.equal(await confirm('Sure?', false, asked.io, signal), false);
});

test('where nobody can be asked nothing is done, and it is said how to', async () => {
  const { io, out } = keptIo();
  await assert.rejects(
    confirm('Sure?', false, io),
    (error) =>
      error instanceof ConfigError && error.problems[0] === 'there is no terminal to ask at: nothing was changed; add --yes to do it',
  );
  assert.equal(out.stdout, '');
  assert.equal(await confirm('Sure?', true, io), true);
});
