/** Runs the conformance suite's cases on a Redis that is already there. */
import type { TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { EntityRef } from '../../src/events/event.ts';
import { Keys } from '../../src/stores/redis/keys.ts';
import { createRedisStore } from '../../src/stores/redis/redis-store.ts';
import { uniqueStream } from '../support/services.ts';
import type { StoreHarness } from './store-conformance.ts';

const momentMs = 20;

export interface RedisAccess {
  readonly url: string;
  /** Sends a command from outside of the store. */
  readonly command: (...words: readonly string[]) => Promise<unknown>;
}

export function redisHarness(t: TestContext, { url, command }: RedisAccess): StoreHarness {
  return {
    open: async ({ stream = uniqueStream(), idempotencyTtlSeconds = 3600, initialVersion = 0 } = {}) => {
      const store = createRedisStore({ url, stream, idempotencyTtlSeconds, initialVersion });
      t.after(() => store.close());
      return store;
    },
    passTime: () => pause(momentMs),
    nowMs: Date.now,
    plantLayout: (stream: string, json: string) => command('HSET', new Keys(stream).streamState, 'layout', json),
    spoil: async (stream: string, entity: EntityRef, key: 'entity' | 'ids' | 'dead') => {
      const keys = new Keys(stream);
      await command('SET', key === 'dead' ? keys.deadLetters({ ...entity, fingerprint: '' }) : keys[key](entity), 'not a hash');
    },
  };
}
