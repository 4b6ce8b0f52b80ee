/** Whether a version of RabbitMQ is one that Inorder can rely on. */
import { failure, type Finding, ok, warning } from '../finding.ts';

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
