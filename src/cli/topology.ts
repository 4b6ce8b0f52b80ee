/** `inorder topology apply`, `check` and `show`: declares, compares or prints the topology of a stream. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { ConfigError, UnavailableError } from '../errors.ts';
import { failureBy, type Finding } from '../finding.ts';
import { applyTopology } from '../rabbitmq/topology.ts';
import { checkTopology } from '../rabbitmq/topology-check.ts';
import { planTopology, type TopologyPlan } from '../rabbitmq/topology-plan.ts';
import { isSameShape, layoutFinding } from '../stores/layout.ts';
import { openStore } from '../stores/open-store.ts';
import { commandLog, withBroker, withStore } from './access.ts';
import { brokerVariables, type CommandIo, defineCommand, jsonOption, stateStoreVariables, type ExitCode } from './command.ts';

const variables = [...brokerVariables, ...stateStoreVariables, 'SHARDS', 'QUEUE_TYPE', 'EXCHANGE_TYPE'] as const;

export const apply = defineCommand({
  name: 'topology apply',
  summary: 'Declares the missing exchanges, queues and bindings.',
  description: [
    'Declares everything of the stream, in the order on which its ring depends. Existing objects are not changed;',
    'one with other arguments is named and refused. Then the store is told how many shards the stream has, which is how a stream',
    'grows: workers with another SHARDS are refused from then on. If the store does not answer, nothing is declared.',
  ].join('\n'),
  positionals: [],
  options: {},
  variables,
  async run(_args, io) {
    const config = loadConfig(io.env);
    const plan = planOf(config);
    await onRecord(config, io, () =>
      withBroker(config, io, (connection) => applyTopology({ ready: async () => connection, time: io.time }, plan)),
    );
    const { exchanges, queues, bindings } = plan;
    const made = `${exchanges.length} exchanges, ${queues.length} queues and ${bindings.length} bindings`;
    await io.stdout.write(`${made} of ${config.broker.stream} are there\n`);
    return 0;
  },
});

/** Puts the shape of the stream on record in the store once `apply` has made it. Before, a store that cannot be asked is refused. */
async function onRecord(config: Config, io: CommandIo, apply: () => Promise<void>): Promise<void> {
  const { stream, shards } = config.broker;
  const store = openStore(config, { role: 'topology', log: commandLog(config, io), time: io.time });
  const asked = <T>(answer: Promise<T>, consequence: string): Promise<T> =>
    answer.catch((cause: unknown) => {
      throw cause instanceof UnavailableError ? new UnavailableError(`${consequence}: ${cause.message}`, { cause }) : cause;
    });
  try {
    const { layout } = await asked(store.streamState(), 'nothing was declared, for the store has to know the number of shards');
    await apply();
    const there = `what belongs to ${stream} is there at the broker, but the store does not have it on record with ${shards} shards`;
    const recorded = await asked(store.operator.changeShape(config.broker, layout), `${there}, so run this again`);
    if (isSameShape(recorded, config.broker)) return;
    const other = `somebody else has put ${recorded.shards} shards and ${recorded.exchangeType} on record meanwhile`;
    const remedy = 'agree on one of them, and apply that; more queues than that have to be unbound and drained';
    throw new UnavailableError(`${there}: ${other}; ${remedy}`);
  } finally {
    await store.close();
  }
}

export const check = defineCommand({
  name: 'topology check',
  summary: "Compares the broker's topology with the planned one, line by line.",
  description: [
    'Checks the version, the exchange type, every exchange, queue and binding, and the policies that apply to them; and what the',
    'store has on record of the stream: the version of its layout, the number of shards and the type of the exchange.',
    'It changes nothing. Exit code 1 when anything differs. Arguments, bindings and policies are visible only through the',
    'management API; if it cannot be reached, a warning says so.',
  ].join('\n'),
  positionals: [],
  options: { json: jsonOption },
  variables: [...variables, 'MANAGEMENT_URL', 'GAP_TIMEOUT_MS'],
  async run({ options }, io) {
    return printFindings(await checkStream(loadConfig(io.env), io), options.json, io);
  },
});

/** Every check of `topology check`. */
export async function checkStream(config: Config, io: CommandIo): Promise<readonly Finding[]> {
  const { broker, ordering } = config;
  const wanted = { plan: planOf(config), broker, gapTimeoutMs: ordering.gapTimeoutMs };
  const atBroker = await withBroker(config, io, (model) => {
    return checkTopology({ ...wanted, connection: { ready: async () => model, time: io.time } });
  });
  return [...atBroker, await checkRecord(config, io)];
}

async function checkRecord(config: Config, io: CommandIo): Promise<Finding> {
  try {
    return await withStore(config, io, async (store) => layoutFinding((await store.streamState()).layout, config.broker));
  } catch (error) {
    return layoutUnread(error);
  }
}

/** What becomes of the check when the store cannot be asked; any other error is thrown. */
export function layoutUnread(error: unknown): Finding {
  if (error instanceof ConfigError) return failureBy('layout', error, 'use another version of Inorder, or another store');
  if (!(error instanceof UnavailableError)) throw error;
  return { ...failureBy('layout', error, 'start the store, or correct its URL', 'not known: '), level: 'warning' };
}

export const show = defineCommand({
  name: 'topology show',
  summary: 'Prints the planned topology, without asking the broker.',
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

/** The planned topology of the configured stream. */
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

/** `failure  topology: ... -> what to do`. */
function findingAsText({ level, subject, detail, remedy }: Finding): string {
  return `${level.padEnd(8)} ${subject}: ${detail}${remedy === null ? '' : ` -> ${remedy}`}\n`;
}

/** Prints a line per finding. Only failures change the exit code, not warnings. */
export async function printFindings(findings: readonly Finding[], json: boolean, io: CommandIo): Promise<ExitCode> {
  await io.stdout.write(findings.map(json ? (finding) => `${JSON.stringify(finding)}\n` : findingAsText).join(''));
  return findings.some(({ level }) => level === 'failure') ? 1 : 0;
}
