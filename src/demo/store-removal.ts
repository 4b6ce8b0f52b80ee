/** Removes every key of a stream from Redis, on every master. Only for a stream that nobody uses any more. */
import { Connection } from '../stores/redis/connection.ts';
import { parseRedisUrl } from '../stores/redis/redis-url.ts';
import type { Time } from '../time.ts';

const pageSize = 1_000;
const commandTimeoutMs = 5_000;

/** `stream` is a name without characters that mean something in a pattern. */
export async function removeKeys(redisUrl: string, stream: string, time: Time): Promise<void> {
  const connection = new Connection({ target: parseRedisUrl(redisUrl), commandTimeoutMs, log: undefined, onReconnect: undefined, time });
  try {
    for (const master of await connection.masters()) {
      let cursor = '0';
      do {
        const [next, keys] = await master.scan(cursor, 'MATCH', `inorder:${stream}:*`, 'COUNT', pageSize);
        await connection.send(keys.map((key) => ['UNLINK', key]));
        cursor = next;
      } while (cursor !== '0');
    }
  } finally {
    await connection.close();
  }
}
