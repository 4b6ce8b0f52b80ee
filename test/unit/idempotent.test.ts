import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UnavailableError } from '../../src/errors.ts';
import { idempotent, InProgressError, messageIdOf } from '../../src/idempotency/idempotent.ts';
import { type IdempotencyStore, createMemoryIdempotencyStore } from '../../src/stores/idempotency-store.ts';
import { ManualTime } from '../support/manual-time.ts';

interface Message {
  readonly id: string;
  readonly value?: unknown;
}

/** A handler that counts its runs, in a store whose clock the test moves. */
function counting(handle: (message: Message) => unknown = ({ value }) => value, waitMs = 0) {
  const clock = new ManualTime();
  const store = createMemoryIdempotencyStore({ ttlSeconds: 60, leaseMs: 1_000, time: clock });
  const runs: string[] = [];
  const run = idempotent(
    (message: Message) => {
      runs.push(message.id);
      return handle(message);
    },
    { store, waitMs },
  );
  return { run, runs, store, clock };
}

/** A promise that the test settles. */
function gate() {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

describe('an idempotent handler', () => {
  it('runs once for a message and its duplicates, and gives each of them the result', async () => {
    const { run, runs } = counting();
    const value = { total: 3, items: [] };
    assert.deepEqual(await run({ id: 'm', value }), value);
    assert.deepEqual(await run({ id: 'm', value: 'not looked at' }), value);
    assert.deepEqual(runs, ['m']);
  });

  it('runs for every other message', async () => {
    const { run, runs } = counting();
    await run({ id: 'a' });
    await run({ id: 'b' });
    assert.deepEqual(runs, ['a', 'b']);
  });

  it('remembers also that there was no result', async () => {
    const { run, runs } = counting(() => undefined);
    assert.equal(await run({ id: 'm' }), undefined);
    assert.equal(await run({ id: 'm' }), undefined);
    assert.equal(runs.length, 1);
  });

  it('runs once also when its result cannot be said in JSON', async () => {
    const { run, runs } = counting(() => 10n);
    assert.equal(await run({ id: 'm' }), 10n);
    assert.equal(await run({ id: 'm' }), undefined);
    assert.equal(runs.length, 1);
  });

  it('marks nothing when it fails, with its own error, and runs again', async () => {
    let fails = true;
    const { run, runs } = counting(() => {
      if (fails) throw new RangeError('no');
      return 'yes';
    });
    await assert.rejects(run({ id: 'm' }), RangeError);
    fails = false;
    assert.equal(await run({ id: 'm' }), 'yes');
    assert.equal(runs.length, 2);
  });

  it('passes further arguments on', async () => {
    const add = idempotent((message: Message, more: number) => Number(message.value) + more, { store: createMemoryIdempotencyStore() });
    assert.equal(await add({ id: 'm', value: 1 }, 2), 3);
  });

  it('is told that a concurrent duplicate is in progress', async () => {
    const { open, opened } = gate();
    const { run, runs } = counting(() => opened);
    const first = run({ id: 'm' });
    await assert.rejects(run({ id: 'm' }), (error) => error instanceof InProgressError && error.retryable);
    open();
    await first;
    assert.equal(runs.length, 1);
  });

  it('waits for the concurrent one where asked to, and returns its result', async () => {
    const { open, opened } = gate();
    const { run, runs } = counting(() => opened.then(() => 'done'), 10_000);
    const both = [run({ id: 'm' }), run({ id: 'm' })];
    open();
    assert.deepEqual(await Promise.all(both), ['done', 'done']);
    assert.equal(runs.length, 1);
  });

  it('takes over from a concurrent one that fails', async () => {
    const { open, opened } = gate();
    let attempt = 0;
    const { run } = counting(async () => {
      await opened;
      if (++attempt === 1) throw new Error('the first fails');
      return 'second';
    }, 10_000);
    const both = Promise.allSettled([run({ id: 'm' }), run({ id: 'm' })]);
    open();
    assert.deepEqual(
      (await both).map((one) => (one.status === 'fulfilled' ? one.value : 'failed')),
      ['failed', 'second'],
    );
  });

  it('takes over from one that crashed once its lease is over', async () => {
    const { run, store, clock } = counting(() => 'here');
    await store.begin('m');
    await assert.rejects(run({ id: 'm' }), InProgressError);
    clock.atMs = 1_000;
    assert.equal(await run({ id: 'm' }), 'here');
  });

  it('runs again after the time to live', async () => {
    const { run, runs, clock } = counting();
    await run({ id: 'm' });
    clock.atMs = 59_999;
    await run({ id: 'm' });
    assert.equal(runs.length, 1);
    clock.atMs = 60_000;
    await run({ id: 'm' });
    assert.equal(runs.length, 2);
  });

  it('does not hide its own error behind that of the store', async () => {
    const broken: IdempotencyStore = { ...plain(), release: () => Promise.reject(new UnavailableError('away')) };
    const run = idempotent(() => Promise.reject(new RangeError('mine')), { store: broken });
    await assert.rejects(run({ id: 'm' }), RangeError);
  });

  it('does not run when the store cannot be asked, and says when it could not mark', async () => {
    let runs = 0;
    const away = () => Promise.reject(new UnavailableError('away'));
    await assert.rejects(idempotent(() => runs++, { store: { ...plain(), begin: away } })({ id: 'm' }), UnavailableError);
    assert.equal(runs, 0);
    await assert.rejects(idempotent(() => runs++, { store: { ...plain(), complete: away } })({ id: 'm' }), UnavailableError);
    assert.equal(runs, 1);
  });

  it('takes the id that it is told to take', async () => {
    let runs = 0;
    const run = idempotent((_: { readonly key: number }) => ++runs, {
      store: createMemoryIdempotencyStore(),
      idOf: ({ key }) => String(key),
    });
    assert.equal(await run({ key: 7 }), 1);
    assert.equal(await run({ key: 7 }), 1);
    assert.equal(await run({ key: 8 }), 2);
  });
});

/** A store whose methods can be replaced one by one. */
function plain(): IdempotencyStore {
  const store = createMemoryIdempotencyStore();
  return {
    begin: (id) => store.begin(id),
    complete: (id, lease, result) => store.complete(id, lease, result),
    release: (id, lease) => store.release(id, lease),
    close: () => store.close(),
  };
}

describe('the id of a message', () => {
  it('is the one that it carries', () => {
    assert.equal(messageIdOf({ id: 'a', messageId: 'b' }), 'a');
    assert.equal(messageIdOf({ messageId: 'b' }), 'b');
    assert.equal(messageIdOf({ properties: { messageId: 'c' }, content: Buffer.from('x') }), 'c');
  });

  it('is otherwise made from the content: the same for the same, whatever the order of keys', () => {
    const id = messageIdOf({ entity: 'x', data: { a: 1, b: [2] } });
    assert.match(id, /^[0-9a-f]{32}$/);
    assert.equal(messageIdOf({ data: { b: [2], a: 1 }, entity: 'x' }), id);
    assert.notEqual(messageIdOf({ data: { b: [2], a: 2 }, entity: 'x' }), id);
    assert.match(messageIdOf({ id: '', x: 1 }), /^[0-9a-f]{32}$/, 'an empty id is none');
  });

  it('is made from the bytes where the message is bytes or a delivery without an id', () => {
    const bytes = Buffer.from('{"a":1}');
    assert.equal(messageIdOf(bytes), messageIdOf({ properties: {}, content: bytes }));
    assert.notEqual(messageIdOf(bytes), messageIdOf(Buffer.from('{"a":2}')));
  });
});
