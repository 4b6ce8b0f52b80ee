/**
 * Checks whether the Redis behind a connection can be relied on: version, role, eviction, memory, persistence, round-trip
 * time, and the state of a cluster. It only reads, and needs no rights beyond INFO, TIME and CLUSTER INFO.
 */
import { failure, type Finding, ok, warning, measureRoundTrips } from '../../finding.ts';
import type { Durability } from '../../config/config.ts';
import type { Connection } from './connection.ts';
import { durabilityFinding } from './durability.ts';

const oldestVersion = [6, 2] as const;
const newestMajor = 8;
const memoryWarningShare = 0.9;
const clusterSlots = 16_384;

type Info = ReadonlyMap<string, string>;
type Check = (info: Info) => Finding;

const checks: readonly Check[] = [checkVersion, checkRole, checkEviction, checkMemory, checkPersistence];

export async function inspectServers(connection: Connection, durability: Durability): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { node, value } of await connection.askMasters(['INFO'])) {
    const info = parseInfo(String(value));
    for (const check of checks) findings.push(named(check(info), connection, node));
    findings.push(...[durabilityFinding(durability, info)].filter((finding) => finding !== null));
    findings.push(...checkClusterMode(info, connection.isCluster));
  }
  const readClock = async () => clockOf(await connection.ask(['TIME']));
  findings.push(...(await measureRoundTrips('Redis', readClock, connection.time)));
  if (connection.isCluster) findings.push(checkClusterState(parseInfo(String(await connection.ask(['CLUSTER', 'INFO'])))));
  return findings;
}

/** TIME returns seconds and microseconds as two texts. */
function clockOf(time: unknown): number {
  const [seconds, microseconds] = (time as readonly string[]).map(Number);
  return (seconds ?? 0) * 1_000 + (microseconds ?? 0) / 1_000;
}

function named(finding: Finding, connection: Connection, node: string): Finding {
  return connection.isCluster ? { ...finding, subject: `${finding.subject} of ${node}` } : finding;
}

function checkVersion(info: Info): Finding {
  const subject = 'Redis version';
  const version = info.get('redis_version') ?? '';
  const [major = Number.NaN, minor = Number.NaN] = version.split('.').map(Number);
  if (Number.isNaN(major + minor)) return warning(subject, 'It does not say its version.', 'Use Redis 6.2 to 8.');
  if (major < oldestVersion[0] || (major === oldestVersion[0] && minor < oldestVersion[1])) {
    return failure(subject, `It is ${version}.`, 'Upgrade to Redis 6.2 or later.');
  }
  if (major > newestMajor) return warning(subject, `It is ${version}, which Inorder was not tried with.`, 'Try it before you rely on it.');
  return ok(subject, version);
}

function checkRole(info: Info): Finding {
  const subject = 'Redis role';
  if (info.get('role') === 'master') return ok(subject, 'master');
  return failure(subject, 'It is a replica and takes no writes.', 'Name the master in the URL, or use the form redis+sentinel://.');
}

function checkEviction(info: Info): Finding {
  const subject = 'Redis eviction policy';
  const policy = info.get('maxmemory_policy') ?? 'unknown';
  if (policy === 'noeviction') return ok(subject, policy);
  const detail = `maxmemory-policy is ${policy}: versions would be removed, and entities begin again at 1.`;
  return failure(subject, detail, 'CONFIG SET maxmemory-policy noeviction, and put it in redis.conf.');
}

function checkMemory(info: Info): Finding {
  const subject = 'Redis memory';
  const used = Number(info.get('used_memory'));
  const limit = Number(info.get('maxmemory'));
  if (!(limit > 0)) return ok(subject, 'maxmemory is not set');
  const percent = Math.round((100 * used) / limit);
  if (used < memoryWarningShare * limit) return ok(subject, `${percent} % of maxmemory`);
  return warning(
    subject,
    `It uses ${percent} % of maxmemory; at 100 % nothing is committed any more.`,
    'Raise maxmemory, or keep ids for a shorter time.',
  );
}

function checkPersistence(info: Info): Finding {
  const subject = 'Redis persistence';
  if (info.get('aof_enabled') !== '1') {
    const detail = 'The append-only file is off: a crash loses everything since the last snapshot, if there is one.';
    return warning(subject, detail, 'CONFIG SET appendonly yes, and put it in redis.conf.');
  }
  if (info.get('aof_last_write_status') === 'err') {
    return failure(subject, 'The last write to the append-only file failed.', 'Look at its log and its disk.');
  }
  return ok(subject, 'append-only file');
}

function checkClusterMode(info: Info, isCluster: boolean): readonly Finding[] {
  if (isCluster || info.get('cluster_enabled') !== '1') return [];
  return [
    failure(
      'Redis cluster',
      'It is a node of a cluster, but the URL names a single server.',
      'Use the form redis+cluster://host1:6379,host2:6379.',
    ),
  ];
}

/**
 * Its state alone is not enough: with cluster-require-full-coverage no it is ok whatever is not served. What one node alone suspects of
 * another for a moment counts as served.
 */
function checkClusterState(info: Info): Finding {
  const subject = 'Redis cluster';
  const state = info.get('cluster_state');
  const served = Number(info.get('cluster_slots_assigned')) - Number(info.get('cluster_slots_fail'));
  if (state === 'ok' && served === clusterSlots) return ok(subject, `${info.get('cluster_size') ?? '?'} masters, every slot served`);
  const detail = `Its state is ${state}, and ${served} of ${clusterSlots} slots are served.`;
  return failure(subject, detail, 'Look at CLUSTER INFO and CLUSTER NODES.');
}

function parseInfo(text: string): Info {
  const info = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (colon > 0) info.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return info;
}
