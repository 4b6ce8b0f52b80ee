/** `inorder topology apply` and `show`: what a stream consists of at the broker, made or only told. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { applyTopology } from '../rabbitmq/topology.ts';
import { planTopology, type TopologyPlan } from '../rabbitmq/topology-plan.ts';
import { withBroker } from './broker-access.ts';
import { defineCommand, jsonOption } from './command.ts';

const variables = ['AMQP_URL', 'STREAM', 'SHARDS', 'QUEUE_TYPE', 'EXCHANGE_TYPE'] as const;

export const apply = defineCommand({
  name: 'topology apply',
  summary: 'Makes the exchanges, queues and bindings that are missing.',
  description: [
    'Declares everything of the stream, in the order on which its ring depends. What is there already stays as it',
    'is; what is there with other arguments is refused, named, and not touched.',
  ].join('\n'),
  positionals: [],
  options: {},
  variables,
  async run(_args, io) {
    const config = loadConfig(io.env);
    const plan = planOf(config);
    await withBroker(config, (connection) => applyTopology({ ready: async () => connection }, plan));
    const { exchanges, queues, bindings } = plan;
    const made = `${exchanges.length} exchanges, ${queues.length} queues and ${bindings.length} bindings`;
    await io.stdout.write(`${made} of ${config.broker.stream} are there\n`);
    return 0;
  },
});

export const show = defineCommand({
  name: 'topology show',
  summary: 'What should be there, without asking the broker.',
  description: 'Prints every exchange, queue and binding of the stream with its arguments.',
  positionals: [],
  options: { json: jsonOption },
  variables: ['STREAM', 'SHARDS', 'QUEUE_TYPE', 'EXCHANGE_TYPE'],
  async run({ options }, io) {
    const { exchanges, queues, bindings } = planOf(loadConfig(io.env));
    const plan = { exchanges, queues, bindings };
    await io.stdout.write(options.json ? `${JSON.stringify(plan)}\n` : asText(plan));
    return 0;
  },
});

/** What the configured stream should consist of. */
export function planOf({ broker }: Config): TopologyPlan {
  const { stream, shards, queueType, exchangeType } = broker;
  return planTopology({ stream, shards, queueType, exchangeType });
}

function asText({ exchanges, queues, bindings }: Pick<TopologyPlan, 'exchanges' | 'queues' | 'bindings'>): string {
  const lines = [
    ...exchanges.map(({ name, type, arguments: args }) => `exchange ${name}  ${type}${argumentsAsText(args)}`),
    ...queues.map(({ name, arguments: args }) => `queue    ${name}${argumentsAsText(args)}`),
    ...bindings.map(({ exchange, queue, routingKey }) => {
      return `binding  ${exchange} -> ${queue}${routingKey === '' ? '' : `  routing key ${JSON.stringify(routingKey)}`}`;
    }),
  ];
  return `${lines.join('\n')}\n`;
}

function argumentsAsText(args: Readonly<Record<string, unknown>>): string {
  return Object.entries(args)
    .map(([name, value]) => `  ${name}=${String(value)}`)
    .join('');
}
