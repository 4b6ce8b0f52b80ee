/**
 * Compares the broker's topology with what a stream needs, and reports every difference with its remedy. It
 * changes nothing. Bindings, arguments and policies are visible only through the management API; without it
 * a finding says so, and only what AMQP shows is checked.
 *
 * Findings about the broker independent of a stream are here as well: version, alarms (which stop publishers), nodes that are down,
 * partitions, and the clock.
 */
import { ConfigError } from '../errors.ts';
import { failure, type Finding, ok, warning } from '../finding.ts';
import type { Time } from '../time.ts';
import {
  type Answer,
  type ManagedBroker,
  managementOf,
  type ManagementClient,
  type NoAnswer,
  type NodeInfo,
  type Overview,
} from './management.ts';
import { bindingFindings, exchangeFindings, queueFindings, type SeenTopology, surplusFindings } from './topology-comparison.ts';
import { consumerTimeoutFinding, policyFindings } from './policy-check.ts';
import type { ConnectionSource } from './channels.ts';
import { verifyTopology } from './topology.ts';
import type { TopologyPlan } from './topology-plan.ts';

export interface TopologyCheckOptions {
  readonly plan: TopologyPlan;
  readonly connection: ConnectionSource;
  readonly broker: ManagedBroker;
  /** The longest time that a delivery is held for its predecessor. */
  readonly gapTimeoutMs: number;
}

/**
 * One finding per check, failures and warnings with a remedy.
 * @throws UnavailableError when neither the management API nor the broker can be reached.
 */
export async function checkTopology({ plan, connection, broker, gapTimeoutMs }: TopologyCheckOptions): Promise<readonly Finding[]> {
  const management = managementOf(broker, connection.time);
  // A login by certificate is none that could be used there.
  if (management === null)
    return [...(await passiveFindings(connection, plan)), unseen({ reason: 'MANAGEMENT_URL is not set', remedy: null })];
  const overview = await management.overview();
  const findings = overview.ok ? brokerFindings(plan, overview.value) : [];
  const seen = overview.ok ? await look(management) : overview;
  if (!seen.ok) return [...findings, ...(await passiveFindings(connection, plan)), unseen(seen)];
  return [
    ...findings,
    ...exchangeFindings(plan, seen.value),
    ...queueFindings(plan, seen.value),
    ...bindingFindings(plan, seen.value),
    ...surplusFindings(plan, seen.value),
    ...policyFindings(plan, seen.value),
    consumerTimeoutFinding(plan, seen.value, gapTimeoutMs),
  ];
}

/** Findings about the broker as a whole; empty without the management API, which `checkTopology` reports. */
export async function checkBrokerHealth(broker: ManagedBroker, time: Time): Promise<readonly Finding[]> {
  const management = managementOf(broker, time);
  if (management === null) return [];
  const [overview, nodes] = await Promise.all([management.overview(), management.nodes()]);
  if (!overview.ok) return [];
  if (!nodes.ok) {
    const remedy = nodes.remedy ?? 'give the user of MANAGEMENT_URL the tag `monitoring`';
    return [warning('alarms', `they cannot be seen: ${nodes.reason}`, remedy)];
  }
  const clock = management.clockOffsetMs === null ? [] : [brokerClockFinding(management.clockOffsetMs)];
  return [...alarmFindings(nodes.value), ...clock];
}

/** The checks without the management API. */
async function passiveFindings(connection: ConnectionSource, plan: TopologyPlan): Promise<readonly Finding[]> {
  try {
    await verifyTopology(connection, plan);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((detail) => failure('topology', detail, 'run `inorder topology apply`'));
  }
  return [ok('topology', `${plan.exchanges.length} exchanges and ${plan.queues.length} queues exist`)];
}

async function look(management: ManagementClient): Promise<Answer<SeenTopology>> {
  const [exchanges, queues, bindings, policies, operatorPolicies] = await Promise.all([
    management.exchanges(),
    management.queues(),
    management.bindings(),
    management.policies(),
    management.operatorPolicies(),
  ]);
  if (!exchanges.ok) return exchanges;
  if (!queues.ok) return queues;
  if (!bindings.ok) return bindings;
  if (!policies.ok) return policies;
  return {
    ok: true,
    value: {
      exchanges: exchanges.value,
      queues: queues.value,
      bindings: bindings.value,
      policies: policies.value,
      // Only an administrator of some versions may see them.
      operatorPolicies: operatorPolicies.ok ? operatorPolicies.value : null,
    },
  };
}

function unseen({ reason, remedy }: Pick<NoAnswer, 'reason' | 'remedy'>): Finding {
  return warning(
    'management API',
    `${reason}: arguments, bindings, weights, policies, alarms, the version and the plugin were not checked`,
    remedy ?? 'enable rabbitmq_management and set MANAGEMENT_URL',
  );
}

function brokerFindings(plan: TopologyPlan, { rabbitmq_version, exchange_types }: Overview): readonly Finding[] {
  return [
    versionFinding(rabbitmq_version),
    pluginFinding(
      plan,
      exchange_types.map(({ name }) => name),
    ),
  ];
}

function pluginFinding({ exchangeType }: TopologyPlan, types: readonly string[]): Finding {
  const subject = 'plugin';
  if (types.includes(exchangeType)) return ok(subject, `exchanges can be ${exchangeType}`);
  const remedy =
    exchangeType === 'x-consistent-hash'
      ? 'run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on every node'
      : 'use EXCHANGE_TYPE=x-consistent-hash, or RabbitMQ 4.3';
  return failure(subject, `the broker knows no exchange type ${exchangeType}`, remedy);
}

/** The broker's time has a resolution of one second. */
const clockToleranceMs = 5_000;
/** The share of a node's file descriptors that may be in use. */
const mostOfFiles = 0.8;

export function alarmFindings(nodes: readonly NodeInfo[]): readonly Finding[] {
  const findings = nodes.flatMap(({ name, running, mem_alarm, disk_free_alarm, partitions = [], fd_used = 0, fd_total = 0 }) => {
    const subject = `node ${name}`;
    const found: Finding[] = [];
    if (!running) found.push(failure(subject, 'it is down', 'start it; without a majority of nodes quorum queues stand still'));
    if (mem_alarm === true)
      found.push(failure(subject, 'its memory alarm is on: publishers are blocked', 'let the queues empty, or give it more memory'));
    if (disk_free_alarm === true) found.push(failure(subject, 'its disk alarm is on: publishers are blocked', 'free space on its disk'));
    if (partitions.length > 0)
      found.push(failure(subject, `it has lost sight of ${partitions.join(', ')}`, 'restart the side with fewer nodes'));
    if (fd_used > mostOfFiles * fd_total)
      found.push(
        warning(
          subject,
          `it uses ${fd_used} of ${fd_total} file descriptors`,
          'raise its limit of open files: without any left it accepts nobody',
        ),
      );
    return found;
  });
  return findings.length > 0 ? findings : [ok('alarms', `none at ${nodes.length} ${nodes.length === 1 ? 'node' : 'nodes'}`)];
}

/** `offsetMs`: how far the broker's clock is ahead of ours. */
export function brokerClockFinding(offsetMs: number): Finding {
  const subject = 'broker clock';
  if (Math.abs(offsetMs) <= clockToleranceMs) return ok(subject, `within ${clockToleranceMs / 1_000} s of this machine's`);
  const detail = `it is ${Math.round(Math.abs(offsetMs) / 1_000)} s ${offsetMs > 0 ? 'ahead of' : 'behind'} this machine's`;
  return warning(subject, detail, 'let both machines take their time from NTP');
}

const minVersion = { major: 3, minor: 10 };
const lastKnownMajor = 4;

export function versionFinding(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const subject = 'broker';
  if (Number.isNaN(major) || major > lastKnownMajor) {
    return warning(subject, `RabbitMQ ${version} is not a version that Inorder knows`, 'look for a newer Inorder');
  }
  if (major < minVersion.major || (major === minVersion.major && minor < minVersion.minor)) {
    const remedy = `use RabbitMQ ${minVersion.major}.${minVersion.minor} or later`;
    return failure(subject, `RabbitMQ ${version} cannot dead-letter at least once`, remedy);
  }
  return ok(subject, `RabbitMQ ${version}`);
}
