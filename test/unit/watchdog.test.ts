import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UnavailableError } from '../../src/errors.ts';
import { systemTime } from '../../src/time.ts';
import { Watchdog } from '../../src/worker/watchdog.ts';

function watched(initial: { deliveries?: number | null; ready?: number; alive?: boolean } = {}) {
  const state = {
    deliveries: 5 as number | null,
    ready: 3,
    alive: true,
    asked: 0,
    reopened: [] as string[],
    errors: [] as unknown[],
    fails: null as Error | null,
    ...initial,
  };
  const watchdog = new Watchdog({
    shards: [
      {
        shard: 0,
        queue: 'q',
        settledDeliveries: () => state.deliveries,
        isAlive: async () => state.alive,
        reopenChannel: (cause) => void state.reopened.push(cause.message),
      },
    ],
    readyIn: async () => {
      state.asked++;
      if (state.fails !== null) throw state.fails;
      return new Map([['q', state.ready]]);
    },
    intervalMs: 1_000,
    time: systemTime,
    log: { warn: () => undefined },
    onError: (error) => void state.errors.push(error),
  });
  return { state, watchdog };
}

describe('the watchdog', () => {
  it('reopens the channel of a queue that twice in a row has messages and delivers none', async () => {
    const { state, watchdog } = watched();
    for (let look = 0; look < 2; look++) await watchdog.look();
    assert.deepEqual(state.reopened, []);
    await watchdog.look();
    assert.deepEqual(state.reopened, ['the queue has messages and delivers none']);
    await watchdog.look();
    assert.equal(state.reopened.length, 1);
  });

  it('does so at once where the channel does not answer', async () => {
    const { state, watchdog } = watched({ alive: false });
    await watchdog.look();
    await watchdog.look();
    assert.deepEqual(state.reopened, ['the channel does not answer']);
  });

  it('leaves a shard alone that is given something, is empty, has work in hand, or has had nothing yet', async () => {
    const busy = watched();
    for (let look = 0; look < 5; look++) {
      await busy.watchdog.look();
      busy.state.deliveries = (busy.state.deliveries ?? 0) + 1;
    }
    assert.deepEqual([busy.state.reopened, busy.state.asked], [[], 0]);
    for (const initial of [{ ready: 0 }, { deliveries: null }]) {
      const { state, watchdog } = watched(initial);
      for (let look = 0; look < 5; look++) await watchdog.look();
      assert.deepEqual(state.reopened, []);
    }
  });

  it('begins to count again when something came between two looks', async () => {
    const { state, watchdog } = watched();
    await watchdog.look();
    await watchdog.look();
    state.deliveries = 6;
    await watchdog.look();
    await watchdog.look();
    assert.deepEqual(state.reopened, []);
  });

  it('learns nothing from a broker that is away, and reports anything else', async () => {
    const { state, watchdog } = watched();
    await watchdog.look();
    state.fails = new UnavailableError('away');
    await watchdog.look();
    assert.deepEqual([state.reopened, state.errors], [[], []]);
    state.fails = new TypeError('a bug');
    await watchdog.look();
    assert.deepEqual(state.errors, [state.fails]);
  });
});
