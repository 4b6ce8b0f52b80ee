/** `inorder demo`, which ends by itself unless it makes traffic. It is part of a checkout and of the image, not of the npm package. */
import { existsSync } from 'node:fs';
import { loadConfig } from '../config/load.ts';
import { wholeNumber } from '../config/parsers.ts';
import { ConfigError } from '../errors.ts';
import { processLog } from './access.ts';
import { defineCommand, optionValue, value } from './command.ts';

const fewestOrders = 20;
const mostOrders = 100_000;

export const demo = defineCommand({
  name: 'demo',
  summary: 'Orders shuffled, repeated and lost, a worker killed: and what comes out.',
  description: [
    'It is part of a checkout and of the image, not of the npm package.',
    'Uses AMQP_URL and REDIS_URL if they are set, and otherwise starts RabbitMQ and Redis: in Docker, from installed',
    'programs, or from Debian packages when root. It uses a separate stream and removes everything that it made.',
    'With --traffic it starts nothing and publishes for workers that run elsewhere, until it is stopped.',
    'Exit code 0 only when every message is accounted for and every order equals an independent computation.',
  ].join('\n'),
  positionals: [],
  options: {
    orders: value('N', 'How many orders. Default: 2000.'),
    traffic: value('R', 'Only publishes, to STREAM and without end, R events a second of --orders orders at a time. Default: no.'),
    seed: value('S', 'Seed of the orders and of their shuffling. Default: 1.'),
  },
  variables: ['AMQP_URL', 'REDIS_URL', 'STREAM'],
  async run({ options }, io) {
    const orders = optionValue('--orders', options.orders ?? '2000', wholeNumber(fewestOrders, mostOrders));
    const seed = optionValue('--seed', options.seed ?? '1', wholeNumber(0, 2 ** 32 - 1));
    const traffic = options.traffic === null ? null : optionValue('--traffic', options.traffic, wholeNumber(1, 100_000));
    if (!existsSync(new URL('../../deploy/demo', import.meta.url)))
      throw new ConfigError(['the demo is not in the npm package: clone the repository and run `npm run demo` there']);
    const signal = io.takeSignals();
    const { publishTraffic, runDemo } = await import('../../deploy/demo/demo.ts');
    if (traffic !== null) {
      const config = loadConfig(io.env);
      const feed = { orders, seed, ratePerSecond: traffic, ...config.broker, log: processLog(config, io), signal };
      const { confirmed, returned, failed } = await publishTraffic(feed);
      await io.stdout.write(`${confirmed} events confirmed, ${returned} returned, ${failed} failed\n`);
      return returned + failed === 0 ? 0 : 1;
    }
    try {
      const write = (text: string) => void io.stdout.write(text);
      const balanced = await runDemo({ orders, seed, env: io.env, write, isTTY: io.isTTY, signal });
      return balanced ? 0 : 1;
    } catch (error) {
      if (!signal.aborted) throw error;
      await io.stderr.write('inorder: interrupted; everything that was started has been removed\n');
      return 1;
    }
  },
});
