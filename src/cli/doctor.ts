/**
 * `inorder doctor`: everything that can be checked before relying on a set-up, each with its remedy. The checks
 * do not depend on each other: one that fails does not hide the next.
 */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { ConfigError, InorderError } from '../errors.ts';
import { queueDepths } from '../rabbitmq/queue-depths.ts';
import { verifyTopology } from '../rabbitmq/topology.ts';
import { unroutedQueueName } from '../rabbitmq/topology-plan.ts';
import type { StoreFinding } from '../stores/store.ts';
import { loadProcessors } from '../worker/processor-module.ts';
import { withBroker } from './broker-access.ts';
import { defineCommand, type CommandIo, jsonOption } from './command.ts';
import { withStore } from './store-access.ts';
import { planOf } from './topology.ts';
import { askWorker } from './worker-status.ts';

type Finding = StoreFinding;

interface Check {
  readonly subject: string;
  /** What to do when the check itself throws. */
  readonly remedy: string;
  readonly run: (config: Config, io: CommandIo) => Promise<readonly Finding[]>;
}

const checks: readonly Check[] = [
  { subject: 'configuration', remedy: 'correct the variable', run: checkConfiguration },
  { subject: 'processor', remedy: 'correct PROCESSOR or the module that it names', run: checkProcessor },
  { subject: 'broker', remedy: 'start RabbitMQ, or correct AMQP_URL', run: checkBroker },
  {
    subject: 'topology',
    remedy: 'run `inorder topology apply`; for wrong arguments see `inorder topology check`',
    run: checkStream,
  },
  { subject: 'unrouted', remedy: 'run `inorder topology apply`', run: checkUnrouted },
  { subject: 'store', remedy: 'start Redis, or correct REDIS_URL', run: checkStore },
  { subject: 'worker', remedy: 'read its log', run: checkWorker },
];

export const command = defineCommand({
  name: 'doctor',
  summary: 'Checks configuration, broker, topology and store; says what to do.',
  description: 'Prints a line for each check; exit code 1 when one of them is a failure. It changes nothing.',
  positionals: [],
  options: { json: jsonOption },
  variables: ['AMQP_URL', 'MANAGEMENT_URL', 'REDIS_URL', 'STREAM', 'SHARDS', 'PROCESSOR', 'HTTP_HOST', 'HTTP_PORT'],
  async run({ options }, io) {
    const config = loadConfig(io.env);
    let failed = false;
    for (const check of checks) {
      for (const finding of await findingsOf(check, config, io)) {
        failed ||= finding.level === 'failure';
        await io.stdout.write(options.json ? `${JSON.stringify(finding)}\n` : asText(finding));
      }
    }
    return failed ? 1 : 0;
  },
});

async function findingsOf({ subject, remedy, run }: Check, config: Config, io: CommandIo): Promise<readonly Finding[]> {
  try {
    return await run(config, io);
  } catch (error) {
    // What is not ours is a bug of the check, and not something that an operator could mend.
    if (!(error instanceof InorderError)) throw error;
    const details = error instanceof ConfigError ? error.problems : [error.message];
    return details.map((detail) => ({ level: 'failure', subject, detail, remedy }));
  }
}

async function checkConfiguration({ warnings, broker }: Config): Promise<readonly Finding[]> {
  const classic: Finding = {
    level: 'warning',
    subject: 'configuration',
    detail: 'classic queues are not replicated, and lose their place in the order when their node is lost',
    remedy: 'use QUEUE_TYPE=quorum',
  };
  return [
    ok('configuration', `stream ${broker.stream}, ${broker.shards} shards`),
    ...(broker.queueType === 'classic' ? [classic] : []),
    ...warnings.map((detail): Finding => ({ level: 'warning', subject: 'configuration', detail, remedy: 'unset it' })),
  ];
}

async function checkProcessor({ processing }: Config): Promise<readonly Finding[]> {
  await loadProcessors(processing);
  return [ok('processor', `${processing.processor} loads`)];
}

async function checkBroker(config: Config): Promise<readonly Finding[]> {
  const { product, version } = await withBroker(config, async (connection) => connection.connection.serverProperties);
  return [ok('broker', `${product} ${version} answers`)];
}

async function checkStream(config: Config): Promise<readonly Finding[]> {
  await withBroker(config, (connection) => verifyTopology({ ready: async () => connection }, planOf(config)));
  return [ok('topology', 'every exchange and queue is there')];
}

async function checkUnrouted(config: Config): Promise<readonly Finding[]> {
  const queue = unroutedQueueName(config.broker.stream);
  const [depth] = await withBroker(config, (connection) => queueDepths(connection, [queue]));
  if (!depth?.ready) return [ok('unrouted', 'no message went past the shards')];
  const detail = `${depth.ready} messages in ${queue} found no shard`;
  return [
    { level: 'failure', subject: 'unrouted', detail, remedy: 'run `inorder topology apply`, then publish them again' },
  ];
}

async function checkStore(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  return await withStore(config, io.stderr, (store) => store.inspect());
}

async function checkWorker(config: Config): Promise<readonly Finding[]> {
  const report = await askWorker(config);
  const subject = 'worker';
  if (report === null) {
    const detail = `none of ${config.broker.stream} answers at HTTP_HOST and HTTP_PORT`;
    return [{ level: 'warning', subject, detail, remedy: 'start `inorder worker`, unless it runs elsewhere' }];
  }
  if (report.not_ready.length === 0) return [ok(subject, `${report.service} is ready`)];
  return [{ level: 'failure', subject, detail: `not ready: ${report.not_ready.join('; ')}`, remedy: 'read its log' }];
}

function ok(subject: string, detail: string): Finding {
  return { level: 'ok', subject, detail, remedy: null };
}

function asText({ level, subject, detail, remedy }: Finding): string {
  return `${level.padEnd(8)} ${subject}: ${detail}${remedy === null || level === 'ok' ? '' : ` -> ${remedy}`}\n`;
}
