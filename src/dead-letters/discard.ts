/**
 * Removes dead letters from the queue for good. The audit entry is written before the first one is removed. With
 * `skipSequence` each leaves a hole in its entity, so that the events behind it can be applied.
 */
import { ConfigError, UnavailableError } from '../errors.ts';
import type { Snapshot } from '../ordering/entity.ts';
import { Holes } from '../ordering/holes.ts';
import { deadLetterQueueName } from '../rabbitmq/topology-plan.ts';
import { type AuditEntry, snapshotsOf, type Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { copiesOf, Drain } from './drain.ts';
import type { Connection } from './queue-reading.ts';
import type { LettersOfEntity, LetterSummary } from './replay-plan.ts';
import { countMatched, type Survey } from './inspect.ts';

export interface DiscardOptions {
  readonly connection: Connection;
  readonly stream: string;
  readonly store: Pick<Store, 'load' | 'commit' | 'operator'>;
  /** Who discards, and why, for the audit trail. */
  readonly who: string;
  readonly reason: string;
  /** The version passes each discarded event, which leaves a hole. Default false. */
  readonly skipSequence?: boolean;
  /** Ends the discard after the present page. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (discarded: number) => void;
  readonly time: Time;
}

/** Letters that one entry of the audit trail names. */
const maxNamed = 20;

/**
 * Returns how many were removed.
 * @throws ConfigError when a sequence to skip is no longer the next one of its entity: nothing was removed.
 * @throws UnavailableError when broker or store become unavailable.
 */
export async function discard(survey: Survey, options: DiscardOptions): Promise<number> {
  const { connection, stream, store, signal, time, onProgress } = options;
  const { entities, unordered } = survey;
  if (options.skipSequence) await skipAll(entities, options);
  const groups = [...entities.map(({ matched }) => matched), unordered].filter((group) => group.length > 0);
  await store.operator.appendAudit(groups.map((group) => entryOf(group, options)));
  const drain = new Drain(copiesOf(groups.flat()));
  const discarded = () => countMatched(survey) - drain.remaining;
  const readOnce = () =>
    drain.readOnce(
      connection,
      { queue: deadLetterQueueName(stream), time },
      (taken) => {
        for (const letter of taken) letter.remove();
        onProgress?.(discarded());
      },
      signal,
    );
  while ((await readOnce()) === 'expired' && drain.remaining > 0 && !signal?.aborted);
  return discarded();
}

/** Of one entity, or of none. */
function entryOf(letters: readonly LetterSummary[], { who, reason }: DiscardOptions): AuditEntry {
  const [{ entityType, entityId }] = letters as [LetterSummary];
  const named = letters.slice(0, maxNamed).map(({ sequence, reason: was, messageId }) => `${sequence ?? '-'} ${was} ${messageId}`);
  const more = letters.length > maxNamed ? `, and ${letters.length - maxNamed} more` : '';
  const what = `discarded ${letters.length === 1 ? 'a dead letter' : `${letters.length} dead letters`}: ${named.join(', ')}${more}`;
  const isOne = letters.every((letter) => letter.entityId === entityId && letter.entityType === entityType);
  return { action: 'discard', who, entityType: isOne ? entityType : null, entityId: isOne ? entityId : null, what, reason };
}

/**
 * Checks a plan of skipping before it is shown.
 * @throws ConfigError when the sequence of a matched letter is not the next one of its entity.
 */
export async function assertSkippable({ entities }: Survey, store: Pick<Store, 'load'>): Promise<void> {
  await skipsOf(entities, store);
}

/** @throws ConfigError as `assertSkippable`. */
async function skipsOf(entities: readonly LettersOfEntity[], store: Pick<Store, 'load'>) {
  const refs = entities.map(({ entity }) => entity);
  const snapshots = await snapshotsOf(store, refs);
  return entities.map((letters, index) => ({
    entity: letters.entity,
    ...snapshots[index]!,
    sequences: sequencesToSkip(letters, snapshots[index]!),
  }));
}

async function skipAll(entities: readonly LettersOfEntity[], { store, who, reason, time }: DiscardOptions): Promise<void> {
  for (const { entity, version, holes, sequences } of await skipsOf(entities, store)) {
    const last = sequences.at(-1);
    if (last === undefined) continue;
    const what = `skipped ${sequences.length === 1 ? `sequence ${last}` : `sequences ${version + 1} to ${last}`}`;
    await store.operator.appendAudit([{ action: 'skip-sequence', who, ...entity, what, reason }]);
    const newHoles = Holes.parse(holes)
      .add(version + 1, last)
      .toString();
    const token = `operator:${time.uuid()}`;
    const skip = { expectedVersion: version, expectedHoles: holes, newVersion: last, newHoles };
    const [result] = await store.commit([{ ...entity, token, ...skip, state: null, events: [] }]);
    if (result?.status !== 'ok') throw new UnavailableError(`${entity.entityType} ${entity.entityId} has changed meanwhile: try again`);
  }
}

/** In order; sequences that the version has passed need no skipping. */
function sequencesToSkip({ entity, matched }: LettersOfEntity, { version }: Snapshot): readonly number[] {
  const above = matched.flatMap(({ sequence }) => (sequence !== null && sequence > version ? [sequence] : []));
  const sequences = [...new Set(above)].sort((a, b) => a - b);
  const gap = sequences.find((sequence, index) => sequence !== version + 1 + index);
  if (gap === undefined) return sequences;
  const name = `${entity.entityType} ${JSON.stringify(entity.entityId)}`;
  throw new ConfigError([`${name} is at version ${version}: sequence ${gap} is not the next one, and cannot be skipped`]);
}
