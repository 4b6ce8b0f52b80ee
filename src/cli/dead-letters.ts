/** `inorder dead-letters list` and `show`: what was set aside, and why; reading leaves it where it is. */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/config.ts';
import { ConfigError } from '../errors.ts';
import { type InspectOptions, findDeadLetters, listDeadLetters } from '../dead-letters/inspect.ts';
import { asJson, asListJson, asPage, asTableLine, tableHeader } from '../dead-letters/render.ts';
import { deadLetterQueueName } from '../rabbitmq/topology-plan.ts';
import { withBroker } from './broker-access.ts';
import { type CommandIo, defineCommand, jsonOption } from './command.ts';
import { withStore } from './store-access.ts';

const howItReads = [
  'Reading holds the messages unacknowledged and then gives them back, in their order. It leaves two traces: the',
  'broker marks what was read as redelivered, and counts one delivery more. While it lasts, another reader does not',
  'see what this one holds.',
].join('\n');

export const list = defineCommand({
  name: 'dead-letters list',
  summary: 'What was dead-lettered and why, oldest first; nothing is taken out.',
  description: `Prints a line for each message of the dead-letter queue.\n${howItReads}`,
  positionals: [],
  options: {
    limit: { kind: 'value', placeholder: 'N', meaning: 'At most so many, from the head of the queue. Default: all.' },
    json: jsonOption,
  },
  variables: ['AMQP_URL', 'REDIS_URL', 'STREAM', 'ENTITY_TYPE'],
  async run({ options }, io) {
    const limit = options.limit === null ? undefined : wholeNumber(options.limit);
    const config = loadConfig(io.env);
    const stop = io.takeSignals();
    const render = options.json ? asListJson : asTableLine;
    let printed = 0;
    await inspecting(config, io, async (inspection) => {
      for await (const letters of listDeadLetters({ ...inspection, limit, signal: stop })) {
        if (printed === 0 && !options.json) await io.stdout.write(tableHeader);
        if (!(await io.stdout.write(letters.map(render).join('')))) return;
        printed += letters.length;
      }
    });
    if (printed === 0 && !stop.aborted) await io.stderr.write(`${deadLetterQueueName(config.broker.stream)} is empty\n`);
    return stop.aborted ? 1 : 0;
  },
});

export const show = defineCommand({
  name: 'dead-letters show',
  summary: 'Everything about one dead letter: reason, detail, remedy, headers, body.',
  description: [
    'ID is the id of the message, or the fingerprint of its body where it has none, as `list` prints it. All copies',
    'of a message are shown; exit code 1 when there is none.',
    howItReads,
  ].join('\n'),
  positionals: ['ID'],
  options: { json: jsonOption },
  variables: ['AMQP_URL', 'REDIS_URL', 'STREAM', 'ENTITY_TYPE'],
  async run({ positionals, options }, io) {
    const id = positionals[0]!;
    const config = loadConfig(io.env);
    const queue = deadLetterQueueName(config.broker.stream);
    const signal = io.takeSignals();
    const letters = await inspecting(config, io, (inspection) => findDeadLetters(id, { ...inspection, signal }));
    if (signal.aborted) return 1;
    if (letters.length === 0) {
      await io.stderr.write(`inorder: there is no dead letter ${JSON.stringify(id)} in ${queue}\n`);
      return 1;
    }
    await io.stdout.write(options.json ? letters.map(asJson).join('') : letters.map(asPage).join('\n'));
    return 0;
  },
});

function inspecting<T>(config: Config, io: CommandIo, use: (options: InspectOptions) => Promise<T>): Promise<T> {
  const { broker, limits, processing, ordering } = config;
  const decoding = {
    limits,
    defaultEntityType: processing.entityType,
    allowMissingEntityId: ordering.unsequenced === 'process',
  };
  return withBroker(config, (connection) =>
    withStore(config, io.stderr, (store) => use({ connection, stream: broker.stream, store, decoding })),
  );
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value > 0) return value;
  throw new ConfigError([`--limit is ${JSON.stringify(text)}: it must be a whole number from 1 up`]);
}
