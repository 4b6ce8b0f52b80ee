/** Plans an entity's replay together with a source that may have what its dead letters wait for. */
import type { EncodedEvent } from '../events/encode.ts';
import type { MissingEvents } from '../event-sourcing/gap-source.ts';
import type { FirstSequence } from '../ordering/limits.ts';
import type { Snapshot } from '../stores/store.ts';
import { type EntityReplay, type LettersOfEntity, planEntity } from './replay-plan.ts';

/** What a source has of the missing events, in the order of their sequences. */
export type MissingEventsReader = (missing: MissingEvents) => Promise<readonly EncodedEvent[]>;

/** What lacks more than so many events stays blocked: it has to be mended in another way. */
const maxFetched = 10_000;
const maxPerRead = 500;
const neverAborted = new AbortController().signal;

/** The plan, with the events that the source has, as far as they let more letters go. */
export async function withFetched(
  plan: EntityReplay,
  letters: LettersOfEntity,
  snapshot: Snapshot,
  source: MissingEventsReader,
  { firstSequence, signal = neverAborted }: { readonly firstSequence: FirstSequence; readonly signal?: AbortSignal },
): Promise<EntityReplay> {
  let best = plan;
  let fetched: readonly EncodedEvent[] = [];
  for (let blocked = plan.blocked; blocked !== null && !blocked.isDeadLetter && !signal.aborted; blocked = best.blocked) {
    const { missing: from, next } = blocked;
    if (fetched.length + next - from > maxFetched) return best;
    const found: EncodedEvent[] = [];
    for (let first = from; first < next; first += maxPerRead) {
      found.push(...(await source({ entity: letters.entity, from: first, to: Math.min(next, first + maxPerRead) - 1, signal })));
    }
    // With a hole left nothing more could go.
    if (found.length < next - from) return best;
    fetched = [...fetched, ...found];
    best = planEntity(letters, snapshot, firstSequence, fetched);
  }
  return best;
}
