/**
 * A process that owns private nodes, for tests of what becomes of them when it dies: starts one Redis and, with the
 * argument `rabbit`, one RabbitMQ, prints their URLs as one line of JSON and stays.
 */
import { RabbitNode } from '../../deploy/local/rabbit-node.ts';
import { RedisNode } from '../../deploy/local/redis-node.ts';

const redis = await RedisNode.start();
const rabbit = process.argv.includes('rabbit') ? await RabbitNode.start() : null;
process.stdout.write(`${JSON.stringify({ redisUrl: redis.redisUrl, amqpUrl: rabbit?.amqpUrl ?? null })}\n`);
setInterval(() => undefined, 60_000);
