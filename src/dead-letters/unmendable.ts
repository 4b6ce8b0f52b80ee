/**
 * Dead letters that a replay does not mend: they would be dead-lettered again, or pass for duplicates of what they are not. A plan
 * leaves them where they are, and says what to do instead. Pure but for the question what was applied in their place.
 */
import type { RejectionReason } from '../events/reasons.ts';
import { Holes } from '../ordering/holes.ts';
import type { ViolationStrategy } from '../ordering/limits.ts';
import type { RecallResult, Snapshot, Store } from '../stores/store.ts';
import type { DeadLetterReason } from './dead-letter.ts';
import type { LettersOfEntity, LetterSummary } from './replay-plan.ts';

export interface Unmendable {
  readonly letter: LetterSummary;
  /** And what to do instead. */
  readonly why: string;
}

/** Of the message itself, whatever its entity. */
const ofTheMessage: ReadonlySet<DeadLetterReason> = new Set<RejectionReason>(['malformed', 'too_large', 'unsupported', 'invalid_entity', 'invalid_sequence']);

const batchSize = 500;
const discardIt = 'then discard this one';
const taken = `another event was applied under its sequence: publish it under the next one if it is still wanted, ${discardIt}`;
const passed = `its sequence was passed over, and it would be late: publish it under the next one if its effect is still wanted, ${discardIt}`;

/** As far as that can be said without asking what was applied in its place; null where a replay may mend it. */
export function whyUnmendable({ copy, reason, sequence }: LetterSummary, version: number): string | null {
  const refused = copy === undefined ? (ofTheMessage.has(reason) ? reason : null) : copy.refused;
  if (refused !== null) return `it would be refused again (${refused}): correct it (\`inorder dead-letters export --events\`), publish that, ${discardIt}`;
  if (reason === 'message_id_conflict') return `its id was applied with other content: publish it with an id of its own, ${discardIt}`;
  if (sequence === null || sequence > version) return null;
  if (reason === 'sequence_conflict') return taken;
  return reason === 'late' ? passed : null;
}

/** Some strategies fill holes, with what is not refused. */
function whyNotInHole({ copy }: LetterSummary, strategy: ViolationStrategy): string | null {
  return (strategy === 'skip' || strategy === 'log_and_process') && copy?.refused === null ? null : passed;
}

/** The letters of entities, apart by whether a replay mends them. What it does not is among the `others`. */
export async function withoutUnmendable(
  entities: readonly LettersOfEntity[],
  snapshots: readonly Snapshot[],
  store: Pick<Store, 'recall'>,
  strategy: ViolationStrategy,
): Promise<{ readonly entities: readonly LettersOfEntity[]; readonly unmendable: readonly Unmendable[] }> {
  const why = new Map<LetterSummary, string>();
  const asked: { readonly letter: LetterSummary; readonly floor: number }[] = [];
  for (const [index, { meant }] of entities.entries()) {
    const { version, holes: text } = snapshots[index]!;
    const holes = Holes.parse(text);
    for (const letter of meant) {
      const isPassed = letter.sequence !== null && letter.sequence <= version;
      const isHole = isPassed && holes.has(letter.sequence);
      const known = isHole ? whyNotInHole(letter, strategy) : whyUnmendable(letter, version);
      if (known !== null) why.set(letter, known);
      else if (isPassed && !isHole) asked.push({ letter, floor: holes.floor });
    }
  }
  const recalled = await recallLetters(asked.map(({ letter }) => letter), store);
  for (const { letter, floor } of asked) {
    const verdict = recalled.get(letter);
    if (verdict?.status === 'known' && verdict.payloadHash !== letter.copy?.payloadHash) why.set(letter, taken);
    else if (verdict?.status === 'unknown' && (letter.sequence ?? 0) <= floor) why.set(letter, passed);
  }
  if (why.size === 0) return { entities, unmendable: [] };
  return {
    entities: entities.map(({ meant, others, ...entity }) => ({
      ...entity,
      meant: meant.filter((letter) => !why.has(letter)),
      others: [...others, ...meant.filter((letter) => why.has(letter))],
    })),
    unmendable: [...why].map(([letter, reason]) => ({ letter, why: reason })),
  };
}

/** What the store remembers of what was applied in place of these letters, or of their ids where they have no sequence. */
export async function recallLetters(letters: readonly LetterSummary[], store: Pick<Store, 'recall'>): Promise<ReadonlyMap<LetterSummary, RecallResult>> {
  const found = new Map<LetterSummary, RecallResult>();
  for (let at = 0; at < letters.length; at += batchSize) {
    const batch = letters.slice(at, at + batchSize);
    const queries = batch.map(({ entityType, entityId, sequence, messageId }) => ({ entityType: entityType ?? '', entityId: entityId ?? '', sequence, id: messageId }));
    const results = await store.recall(queries);
    for (const [index, letter] of batch.entries()) found.set(letter, results[index]!);
  }
  return found;
}
