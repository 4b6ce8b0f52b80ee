/**
 * What a private RabbitMQ node finds in its directory and in its environment.
 *
 * Everything that would otherwise be taken from the machine (configuration, cookie, plugins, data, logs, port mapper)
 * is named explicitly, so that a node neither reads nor disturbs a RabbitMQ that is installed as a system service.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loopback } from './free-port.ts';

export interface RabbitNodeIdentity {
  readonly directory: string;
  /** Erlang node name, `name@localhost`. */
  readonly nodeName: string;
  readonly cookie: string;
  readonly amqpPort: number;
  readonly managementPort: number;
  readonly distributionPort: number;
  readonly epmdPort: number;
}

const enabledPlugins = ['rabbitmq_consistent_hash_exchange', 'rabbitmq_management'];

/** Two schedulers that sleep instead of spinning: several nodes and the tests share a small machine. */
const runtimeFlags = '+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none';

/** How long a node of a cluster may be silent, in seconds, before the others take it for gone; a minute is the default. */
const tickTime = 20;

const configurationFile = 'rabbitmq.conf';
const pluginsFile = 'enabled_plugins';

/** Writes a fresh node's files. `configLines` come last and so override what is set here; `plugins` come beside those it needs. */
export async function writeRabbitNodeFiles(
  node: RabbitNodeIdentity,
  configLines: readonly string[],
  plugins: readonly string[],
): Promise<void> {
  const lines = [
    `listeners.tcp.default = ${loopback}:${node.amqpPort}`,
    `management.tcp.ip = ${loopback}`,
    `management.tcp.port = ${node.managementPort}`,
    'log.console = false',
    'log.file = rabbit.log',
    'log.file.level = info',
    // The default write-ahead log of quorum queues keeps up to 512 MB in memory.
    'raft.wal_max_size_bytes = 33554432',
    ...configLines,
  ];
  await mkdir(join(node.directory, 'data'), { recursive: true });
  await mkdir(join(node.directory, 'log'), { recursive: true });
  await writeFile(join(node.directory, configurationFile), `${lines.join('\n')}\n`);
  await writeFile(join(node.directory, pluginsFile), `[${[...enabledPlugins, ...plugins].join(',')}].\n`);
  await writeFile(join(node.directory, '.erlang.cookie'), node.cookie, { mode: 0o400 });
}

/** The environment of the server and of `rabbitmqctl` alike. */
export function rabbitNodeEnvironment(node: RabbitNodeIdentity): NodeJS.ProcessEnv {
  const inside = (name: string): string => join(node.directory, name);
  return {
    PATH: `${process.env.PATH ?? ''}:/usr/local/bin:/usr/bin:/bin`,
    LANG: 'C.UTF-8',
    LC_ALL: 'C.UTF-8',
    // The cookie is read from the home directory.
    HOME: node.directory,
    ERL_EPMD_PORT: String(node.epmdPort),
    ERL_EPMD_ADDRESS: loopback,
    ERL_MAX_PORTS: '16384',
    ERL_CRASH_DUMP: inside('erl_crash.dump'),
    ERL_CRASH_DUMP_SECONDS: '0',
    RABBITMQ_NODENAME: node.nodeName,
    RABBITMQ_DIST_PORT: String(node.distributionPort),
    // Not a regular file, so the machine's own rabbitmq-env.conf is not read.
    RABBITMQ_CONF_ENV_FILE: '/dev/null',
    RABBITMQ_CONFIG_FILE: inside(configurationFile),
    RABBITMQ_ADVANCED_CONFIG_FILE: inside('advanced.config'),
    RABBITMQ_CONFIG_FILES: inside('conf.d'),
    RABBITMQ_GENERATED_CONFIG_DIR: inside('generated'),
    RABBITMQ_SCHEMA_DIR: inside('schema'),
    RABBITMQ_ENABLED_PLUGINS_FILE: inside(pluginsFile),
    RABBITMQ_MNESIA_BASE: inside('data'),
    RABBITMQ_LOG_BASE: inside('log'),
    RABBITMQ_PID_FILE: inside('rabbit.pid'),
    // The script then replaces itself by the virtual machine instead of staying as its parent.
    RABBITMQ_ALLOW_INPUT: '1',
    // The last flag means nothing to Erlang: it lets the process be recognised by its directory.
    RABBITMQ_SERVER_START_ARGS: `-noinput ${runtimeFlags} -kernel inet_dist_use_interface {127,0,0,1} -kernel net_ticktime ${tickTime} -inorder ${node.directory}`,
  };
}
