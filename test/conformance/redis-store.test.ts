import { after } from 'node:test';
import { Redis } from 'ioredis';
import { useServices } from '../support/services.ts';
import { redisHarness } from './redis-harness.ts';
import { describeStore } from './store-conformance.ts';

let client: Redis | null = null;
after(() => client?.disconnect());

describeStore('the Redis store', async (t) => {
  const { redisUrl } = await useServices(t);
  const outside = (client ??= new Redis(redisUrl));
  return redisHarness(t, { url: redisUrl, command: (name = '', ...rest) => outside.call(name, rest) });
});
