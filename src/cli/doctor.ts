/**
 * `inorder doctor`: every check of a set-up, with a remedy for each failure. The checks are independent: one that
 * fails does not hide the next.
 */
import { type Config, packageVersion } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { trimmed } from '../config/given-text.ts';
import { variableNames } from '../config/variables.ts';
import { ConfigError, InorderError } from '../errors.ts';
import { failure, failureBy, type Finding, ok, warning, withoutRemedy } from '../finding.ts';
import { askWorker, tokenRefused } from '../observability/worker-status.ts';
import { checkBrokerHealth } from '../rabbitmq/topology-check.ts';
import { queueDepths, whyNobodyConsumes } from '../rabbitmq/queue-depths.ts';
import type { StreamRecordKeeper } from '../rabbitmq/stream-record.ts';
import { recordName, shardQueueNames, unroutedQueueName } from '../rabbitmq/topology-plan.ts';
import { haltText, lookForHalts } from '../stores/store.ts';
import { loadProcessors } from '../worker/operator-modules.ts';
import { openFilesFinding, openFilesNeeded } from '../worker/start.ts';
import { recordOf, withBroker, withStore } from './access.ts';
import {
  brokerVariables,
  type CommandIo,
  defineCommand,
  type ExitCode,
  jsonOption,
  stateStoreVariables,
  httpVariables,
} from './command.ts';
import { checkSafety } from './safety.ts';
import { printFindings, checkStream } from './topology.ts';

interface Check {
  readonly subject: string;
  /** The remedy if the check itself throws. */
  readonly remedy: string | ((config: Config) => string);
  readonly run: (config: Config, io: CommandIo) => Promise<readonly Finding[]>;
}

const brokerRemedy = 'start RabbitMQ, or correct AMQP_URL';

const checks: readonly Check[] = [
  { subject: 'configuration', remedy: 'correct the variable', run: checkConfiguration },
  { subject: 'environment', remedy: 'use Node.js 20.12 or later', run: checkEnvironment },
  { subject: 'processor', remedy: 'correct PROCESSOR or the module that it names', run: checkProcessor },
  { subject: 'broker', remedy: brokerRemedy, run: checkBroker },
  { subject: 'safety', remedy: 'correct the variable', run: (config, { time }) => checkSafety(config, time) },
  { subject: 'topology', remedy: brokerRemedy, run: checkTopology },
  { subject: 'unrouted', remedy: brokerRemedy, run: checkUnrouted },
  { subject: 'store', remedy: storeRemedy, run: checkStore },
  { subject: 'shards', remedy: storeRemedy, run: checkShards },
  { subject: 'worker', remedy: 'read its log', run: checkWorker },
];

export const command = defineCommand({
  name: 'doctor',
  summary: 'Checks configuration, broker, topology and store, with a remedy for each problem.',
  description: 'Prints a line for each check; exit code 1 when one of them is a failure. It changes nothing.',
  positionals: [],
  options: { json: jsonOption },
  variables: [
    ...brokerVariables,
    'MANAGEMENT_URL',
    ...stateStoreVariables,
    'SHARDS',
    'QUEUE_TYPE',
    'EXCHANGE_TYPE',
    'GAP_TIMEOUT_MS',
    'PROCESSOR',
    ...httpVariables,
  ],
  async run({ options }, io) {
    const config = loadConfig(io.env);
    let exitCode: ExitCode = 0;
    for (const check of checks) {
      const code = await printFindings(await findingsOf(check, config, io), options.json, io);
      exitCode ||= code;
    }
    return exitCode;
  },
});

async function findingsOf({ subject, remedy, run }: Check, config: Config, io: CommandIo): Promise<readonly Finding[]> {
  try {
    return await run(config, io);
  } catch (error) {
    // Any other error is a bug of the check, which an operator cannot resolve.
    if (!(error instanceof InorderError)) throw error;
    const usual = typeof remedy === 'string' ? remedy : remedy(config);
    if (error instanceof ConfigError && error.problems.length > 1) return error.problems.map((detail) => failure(subject, detail, usual));
    return [failureBy(subject, error, usual)];
  }
}

function storeRemedy({ store }: Config): string {
  switch (store.kind) {
    case 'postgres':
      return 'start PostgreSQL, or correct DATABASE_URL';
    case 'redis':
      return 'start Redis, or correct REDIS_URL';
  }
}

async function checkConfiguration({ warnings, broker }: Config): Promise<readonly Finding[]> {
  const classic = warning(
    'configuration',
    'classic queues are not replicated, and lose their place in the order when their node is lost',
    'use QUEUE_TYPE=quorum',
  );
  return [
    ok('configuration', `stream ${broker.stream}, ${broker.shards} shards`),
    ...(broker.queueType === 'classic' ? [classic] : []),
    ...warnings.map((detail) => warning('configuration', detail, 'unset it')),
  ];
}

async function checkProcessor({ processing }: Config): Promise<readonly Finding[]> {
  await loadProcessors(processing);
  return [ok('processor', `${processing.processor} loads`)];
}

/** The names of the set variables, without values: most surprises come from a variable that is missing or forgotten. */
async function checkEnvironment(_config: Config, { env }: CommandIo): Promise<readonly Finding[]> {
  const set = variableNames.filter((name) => trimmed(env[name] ?? '') !== '' || trimmed(env[`${name}_FILE`] ?? '') !== '');
  const variables = set.length === 0 ? 'no variable is set: everything is at its default' : `set: ${set.join(', ')}`;
  return [
    ok('environment', `Inorder ${packageVersion()} on Node.js ${process.versions.node}; ${variables}`),
    openFilesFinding(openFilesNeeded),
  ];
}

async function checkBroker(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  const { product, version } = await withBroker(config, io, async (connection) => connection.connection.serverProperties);
  return [ok('broker', `${product} ${version} answers`), ...(await checkBrokerHealth(config.broker, io.time))];
}

/** Only the problems of exchanges and queues: `inorder topology check` prints every line. */
async function checkTopology(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  const findings = await checkStream(config, io);
  const problems = findings.filter(({ level, subject }) => level !== 'ok' || !/^(?:exchange|queue) /.test(subject));
  const right = findings.length - problems.length;
  const summary = right === 0 ? [] : [ok('topology', `${right} exchanges and queues, types and arguments as they should be`)];
  return [...summary, ...problems];
}

async function checkUnrouted(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  const queue = unroutedQueueName(config.broker.stream);
  const [depth] = await withBroker(config, io, (connection) => queueDepths(connection, [queue], io.time));
  if (!depth?.ready) return [ok('unrouted', 'no message went past the shards')];
  const detail = `${depth.ready} messages in ${queue} found no shard`;
  return [failure('unrouted', detail, 'run `inorder topology apply`, then publish them again')];
}

async function checkStore(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  return await withStore(config, io, (store) => store.inspect());
}

/** Whether each shard has a consumer and is not halted. The check of the topology reports a missing queue. */
async function checkShards(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  const { stream } = config.broker;
  const subject = 'shards';
  return withBroker(config, io, async (connection) => {
    const depths = (await queueDepths(connection, shardQueueNames(config.broker), io.time)).filter(({ ready }) => ready !== null);
    const unconsumed = depths
      .flatMap(whyNobodyConsumes)
      .map((detail) => failure(subject, detail, 'start `inorder worker`: the WORKER_SHARDS of all workers together must name every shard'));
    const record = recordOf(connection, stream, io);
    const known = await record.read();
    const halted = await withStore(config, io, async (store) => (await lookForHalts(store, known, io.time)).halts).then(
      (halts) =>
        halts.map((halt) => failure(subject, haltText(halt), 'restore the store, or put its entities right; then `inorder shards resume`')),
      (error: unknown) => [failureBy(subject, error, storeRemedy(config), 'whether they are halted is not known: ')],
    );
    const problems = [...unconsumed, ...halted];
    return [
      ...(problems.length > 0 ? problems : [ok(subject, `${depths.length}, each with a consumer, none halted`)]),
      ...unrecorded(record, stream),
    ];
  });
}

function unrecorded({ trouble, remedy }: Pick<StreamRecordKeeper, 'trouble' | 'remedy'>, stream: string): readonly Finding[] {
  if (trouble === null) return [];
  const usual = `run \`inorder topology apply\`, and let workers read the queue ${recordName(stream)} and write to the exchange of that name`;
  const why = withoutRemedy(trouble, remedy);
  const detail = `the broker keeps no record of the store, so that an empty or old one is not noticed at a start: ${why}`;
  return [warning('shards', detail, remedy ?? usual)];
}

async function checkWorker(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  const report = await askWorker(config, io.time);
  const subject = 'worker';
  if (report === null) {
    const detail = `none of ${config.broker.stream} answers at HTTP_HOST and HTTP_PORT`;
    return [warning(subject, detail, 'start `inorder worker`, unless it runs elsewhere')];
  }
  if (report === 'refused') return [warning(subject, `the one at HTTP_HOST and HTTP_PORT ${tokenRefused.what}`, tokenRefused.remedy)];
  if (report.not_ready.length === 0) return [ok(subject, `${report.service} is ready`)];
  return [failure(subject, `not ready: ${report.not_ready.join('; ')}`, 'read its log')];
}
