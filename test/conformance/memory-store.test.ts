import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { ManualTime } from '../support/manual-time.ts';
import { uniqueStream } from '../support/services.ts';
import { describeStore } from './store-conformance.ts';

const momentMs = 20;

describeStore('the memory store', async () => {
  const time = new ManualTime(Date.UTC(2026, 0, 1));
  const streams = new Map<string, Store>();
  return {
    open: async ({ stream = uniqueStream(), idempotencyTtlSeconds = 3600, initialVersion = 0 } = {}) => {
      const store = streams.get(stream) ?? createMemoryStore({ stream, idempotencyTtlSeconds, initialVersion, time });
      streams.set(stream, store);
      return store;
    },
    passTime: async () => {
      time.atMs += momentMs;
    },
    nowMs: () => time.atMs,
    plantLayout: null,
    spoil: null,
  };
});
