/**
 * Findings about a broker independent of a stream: version, alarms (which stop publishers), nodes that are down,
 * partitions, and the clock. Pure.
 */
import { failure, type Finding, ok, warning } from '../finding.ts';
import type { NodeInfo } from './management.ts';

/** The broker's time has a resolution of one second. */
const clockToleranceMs = 5_000;

export function alarmFindings(nodes: readonly NodeInfo[]): readonly Finding[] {
  const findings = nodes.flatMap(({ name, running, mem_alarm, disk_free_alarm, partitions = [] }) => {
    const subject = `node ${name}`;
    const found: Finding[] = [];
    if (!running) found.push(failure(subject, 'it is down', 'start it; without a majority of nodes quorum queues stand still'));
    if (mem_alarm === true)
      found.push(failure(subject, 'its memory alarm is on: publishers are blocked', 'let the queues empty, or give it more memory'));
    if (disk_free_alarm === true) found.push(failure(subject, 'its disk alarm is on: publishers are blocked', 'free space on its disk'));
    if (partitions.length > 0)
      found.push(failure(subject, `it has lost sight of ${partitions.join(', ')}`, 'restart the side with fewer nodes'));
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
