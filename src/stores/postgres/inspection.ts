/** Checks whether the PostgreSQL behind a connection can be relied on. It only reads. */
import { failure, type Finding, ok, warning } from '../../finding.ts';
import { measureRoundTrips } from '../round-trips.ts';
import type { Database } from './database.ts';

const oldestVersion = 130_000;

interface Settings {
  readonly version_number: number;
  readonly version: string;
  readonly encoding: string;
  readonly is_standby: boolean;
  readonly fsync: string;
  readonly synchronous_commit: string;
  readonly user_name: string;
  readonly is_superuser: string;
}

export async function inspectServer(database: Database): Promise<readonly Finding[]> {
  const [settings] = await database.query<Settings>(
    `SELECT current_setting('server_version_num')::int AS version_number, current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
       current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
       current_user::text AS user_name, current_setting('is_superuser') AS is_superuser`,
  );
  const readClock = async () =>
    (await database.query<{ readonly ms: number }>('SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms'))[0]?.ms ?? 0;
  const roundTrips = await measureRoundTrips('PostgreSQL', readClock, database.time);
  return settings === undefined
    ? []
    : [
        versionFinding(settings),
        roleFinding(settings),
        rightsFinding(settings),
        encodingFinding(settings),
        durabilityFinding(settings),
        ...roundTrips,
      ];
}

function versionFinding({ version_number, version }: Settings): Finding {
  const subject = 'PostgreSQL version';
  if (version_number >= oldestVersion) return ok(subject, version);
  return warning(subject, `It is ${version}, which Inorder was not tried with.`, 'Use PostgreSQL 13 or later.');
}

function roleFinding({ is_standby }: Settings): Finding {
  const subject = 'PostgreSQL role';
  if (!is_standby) return ok(subject, 'primary');
  return failure(subject, 'It is a standby and takes no writes.', 'Name the primary in DATABASE_URL.');
}

function rightsFinding({ user_name, is_superuser }: Settings): Finding {
  const subject = 'PostgreSQL rights';
  if (is_superuser === 'off') return ok(subject, `${user_name} is no superuser`);
  const detail = `${user_name} is a superuser: whoever has its password may do everything there.`;
  return warning(subject, detail, 'Name a user in DATABASE_URL that owns the schema inorder and nothing else.');
}

function encodingFinding({ encoding }: Settings): Finding {
  const subject = 'PostgreSQL encoding';
  if (encoding === 'UTF8') return ok(subject, encoding);
  return failure(subject, `The database is in ${encoding}, which has not all characters.`, 'Use a database with the encoding UTF8.');
}

function durabilityFinding({ fsync, synchronous_commit }: Settings): Finding {
  const subject = 'PostgreSQL durability';
  if (fsync === 'off') return failure(subject, 'fsync is off: a crash of the machine may lose everything.', 'Set fsync = on.');
  if (synchronous_commit === 'off') {
    return warning(
      subject,
      'synchronous_commit is off: a crash loses the last commits.',
      'Set synchronous_commit = on for the user of DATABASE_URL.',
    );
  }
  return ok(subject, `synchronous_commit ${synchronous_commit}`);
}
