/** `inorder demo`: everything in one run, with what it needs brought up and cleaned up. */
import { wholeNumber } from '../config/parsers.ts';
import { optionValue } from './arguments.ts';
import { defineCommand } from './command.ts';

const fewestOrders = 20;
const mostOrders = 100_000;

export const command = defineCommand({
  name: 'demo',
  summary: 'Orders shuffled, repeated and lost, a worker killed: and what comes out.',
  description: [
    'Uses AMQP_URL and REDIS_URL where they are set, and otherwise brings RabbitMQ and Redis up: in Docker, from installed',
    'programs, or from Debian packages when root. It works on a stream of its own and removes everything that it made.',
    'Exit code 0 only when every message is accounted for and every order is what an independent computation says.',
  ].join('\n'),
  positionals: [],
  options: {
    orders: { kind: 'value', placeholder: 'N', meaning: 'How many orders. Default: 2000.' },
    seed: { kind: 'value', placeholder: 'S', meaning: 'Another seed gives other orders and another disarray. Default: 1.' },
  },
  variables: ['AMQP_URL', 'REDIS_URL'],
  async run({ options }, io) {
    const orders = optionValue('--orders', options.orders ?? '2000', wholeNumber(fewestOrders, mostOrders));
    const seed = optionValue('--seed', options.seed ?? '1', wholeNumber(0, 2 ** 32 - 1));
    const signal = io.takeSignals();
    // Loaded only here: no other command needs to know how services are brought up.
    const { runDemo } = await import('../demo/demo.ts');
    try {
      const balanced = await runDemo({ orders, seed, env: io.env, write: (text) => void io.stdout.write(text), isTTY: io.isTTY, signal });
      return balanced ? 0 : 1;
    } catch (error) {
      if (!signal.aborted) throw error;
      await io.stderr.write('inorder: interrupted; everything that was started has been removed\n');
      return 1;
    }
  },
});
