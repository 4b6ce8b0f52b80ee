/**
 * What a store has on record of how its stream is laid out: the version of the layout of its keys and rows, and the shape that the
 * stream has at the broker. A store that a newer version of Inorder has laid out otherwise, and a stream of another shape, are refused
 * by name. A store without a record was filled before there were any: its layout is 1, and the first worker records its own shape.
 *
 * A version of Inorder that keeps no record ignores it, so the two work beside each other.
 */
import { packageVersion } from '../config/config.ts';
import { ConfigError } from '../errors.ts';
import { failure, type Finding, ok } from '../finding.ts';

/** Grows when an older version of Inorder would misread what this one writes. */
export const layoutVersion = 1;

/** What every worker and command of a stream must have in common. */
export interface StreamShape {
  readonly shards: number;
  /** `x-consistent-hash` or `x-modulus-hash`. */
  readonly exchangeType: string;
}

export interface StreamLayout extends StreamShape {
  readonly version: number;
}

/** As a store keeps it: of this version. */
export function layoutText({ shards, exchangeType }: StreamShape): string {
  return JSON.stringify({ version: layoutVersion, shards, exchangeType } satisfies StreamLayout);
}

/**
 * Reads what `layoutText` made; null if there is no record.
 *
 * @throws ConfigError when it is newer than this version knows, or damaged.
 */
export function layoutFrom(stream: string, text: string | null): StreamLayout | null {
  if (text === null) return null;
  const layout = parsed(text);
  refuseNewerLayout(`stream ${stream}`, Number(layout?.version));
  if (Number.isSafeInteger(layout?.version) && Number.isSafeInteger(layout?.shards) && typeof layout?.exchangeType === 'string')
    return layout;
  throw new ConfigError([`the store's record of the layout of stream ${stream} is damaged: ${text.slice(0, 200)}: restore the store`]);
}

/** @throws ConfigError for a version that is newer than this one knows. */
export function refuseNewerLayout(what: string, version: number): void {
  if (!(version > layoutVersion)) return;
  throw new ConfigError([
    `the store has ${what} in layout ${version}, and this version of Inorder (${packageVersion()}) knows layouts up to ${layoutVersion}: ` +
      'use the version that has written it, or a newer one',
  ]);
}

/** Whether two layouts, each what is on record or null, are the same; what this version does not know of them makes no difference. */
export function isSameLayout(one: StreamLayout | null, other: StreamLayout | null): boolean {
  return one?.version === other?.version && isSameShape(one, other);
}

export function isSameShape(one: StreamShape | null, other: StreamShape | null): boolean {
  return one?.shards === other?.shards && one?.exchangeType === other?.exchangeType;
}

/** Compares what is on record with what is configured. */
export function layoutFinding(recorded: StreamLayout | null, { shards, exchangeType }: StreamShape): Finding {
  const subject = 'layout';
  if (recorded === null) return ok(subject, 'not on record yet: the first worker records it');
  const onRecord = `the store has the stream on record with ${recorded.shards} shards`;
  if (shards > recorded.shards) {
    const grow = `set SHARDS=${recorded.shards}, or let the stream grow: \`inorder topology apply\` with SHARDS=${shards}`;
    return failure(subject, `SHARDS is ${shards}, and ${onRecord}`, grow);
  }
  if (shards < recorded.shards) {
    const detail = `SHARDS is ${shards}, and ${onRecord}: those from ${shards} on would have no consumer`;
    const fewer = 'once the last queues are drained and deleted, `inorder topology apply` puts fewer on record';
    return failure(subject, detail, `set SHARDS=${recorded.shards}; ${fewer}`);
  }
  if (exchangeType !== recorded.exchangeType) {
    const detail = `EXCHANGE_TYPE is ${exchangeType}, and the store has the stream on record with ${recorded.exchangeType}`;
    return failure(
      subject,
      detail,
      `set EXCHANGE_TYPE=${recorded.exchangeType}, or delete the exchange and run \`inorder topology apply\``,
    );
  }
  return ok(subject, `layout ${recorded.version}, ${recorded.shards} shards, ${recorded.exchangeType}`);
}

function parsed(text: string): StreamLayout | null {
  try {
    return JSON.parse(text) as StreamLayout | null;
  } catch {
    return null;
  }
}
