import { createMemoryStore } from '../../src/stores/memory/memory-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { uniqueStream } from '../support/services.ts';
import { describeStore } from './store-conformance.ts';

const MOMENT_MS = 20;

describeStore('the memory store', async () => {
  let nowMs = Date.UTC(2026, 0, 1);
  const streams = new Map<string, Store>();
  return {
    open: async ({ stream = uniqueStream(), idempotencyTtlSeconds = 3600, initialVersion = 0 } = {}) => {
      const store = streams.get(stream) ?? createMemoryStore({ stream, idempotencyTtlSeconds, initialVersion, now: () => nowMs });
      streams.set(stream, store);
      return store;
    },
    passTime: async () => {
      nowMs += MOMENT_MS;
    },
    nowMs: () => nowMs,
    spoil: null,
  };
});
