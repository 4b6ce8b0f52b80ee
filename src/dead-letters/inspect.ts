/**
 * Reads the dead letters and changes nothing: lists them, finds one with its status, groups them by entity, finds the entities whose
 * missing event has arrived, and plans a change of the letters that a filter matches. The queue stays unchanged (see
 * `queue-reading.ts`); the records of a page are read in one call; memory is bounded by a page and the groups.
 *
 * A plan keeps a summary of each letter; letters that arrive later are not part of it. The store is asked what was applied in place
 * of letters that the version has passed, and a source for the events that the others wait for.
 */
import type { ChannelModel } from 'amqplib';
import type { MissingEvents } from '../stores/event-store.ts';
import { decodeMessage, type DecodeOptions } from '../events/decode.ts';
import type { EncodedEvent } from '../events/encode.ts';
import type { EntityRef } from '../events/event.ts';
import { entityKey } from '../events/identity.ts';
import type { LookupResult, Snapshot } from '../ordering/entity.ts';
import { Holes } from '../ordering/holes.ts';
import type { FirstSequence, ViolationStrategy } from '../ordering/facts.ts';
import { toRawMessage } from '../rabbitmq/channels.ts';
import { deadLetterQueueName, shardQueueName } from '../rabbitmq/topology-plan.ts';
import { snapshotsOf, type Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { copyOf, type DeadLetter, explain, isNamed, isWaiting, type LetterFilter, matches, readLetter } from './dead-letter.ts';
import { peek } from './queue-reading.ts';
import {
  type EntityReplay,
  isReady,
  type LettersOfEntity,
  type LetterStatus,
  type LetterSummary,
  type NotReplayable,
  planEntity,
  type ReplayPlan,
  statusOf,
  summaryOf,
  whyNotInHole,
  whyNotReplayable,
  whyPassed,
} from './replay-plan.ts';

export interface InspectOptions {
  readonly connection: Pick<ChannelModel, 'createChannel'>;
  readonly stream: string;
  readonly store: Pick<Store, 'findDeadLetters'>;
  /** As the stream's workers decode. */
  readonly decoding: DecodeOptions;
  /** Most letters to read, from the head of the queue. Default: all. */
  readonly limit?: number;
  readonly pageSize?: number | undefined;
  /** Ends the reading after the present page, so that everything is given back in order. */
  readonly signal?: AbortSignal;
  readonly time: Time;
}

export interface FindOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load'>;
  /** As the stream's workers have it. */
  readonly firstSequence: FirstSequence;
}

/**
 * The dead letters that are in the queue now, oldest first, page by page.
 * @throws UnavailableError when the queue does not exist, or broker or store become unavailable.
 */
export async function* listDeadLetters(options: InspectOptions): AsyncGenerator<readonly DeadLetter[], void, void> {
  const { connection, stream, store, decoding, limit, pageSize, signal, time } = options;
  const queue = deadLetterQueueName(stream);
  for await (const messages of peek(connection, { queue, limit, pageSize, time })) {
    const letters = messages.map((message) => readLetter(toRawMessage(message), (raw) => decodeMessage(raw, decoding)));
    const records = await store.findDeadLetters(letters.map(({ query }) => query));
    yield letters.map((letter, index) => explain(letter, records[index] ?? null, (name) => shardOf(stream, name)));
    if (signal?.aborted) return;
  }
}

/** A dead letter with its status; null if it names no entity. */
export interface FoundLetter {
  readonly letter: DeadLetter;
  readonly status: LetterStatus | null;
}

/** Every dead letter that `id` names, oldest first: an event may have been dead-lettered in several copies. */
export async function findDeadLetters(id: string, options: FindOptions): Promise<readonly FoundLetter[]> {
  const found: DeadLetter[] = [];
  const entities = new EntityLetters();
  for await (const letters of listDeadLetters(options)) {
    for (const letter of letters) entities.add(summaryOf(letter), true);
    found.push(...letters.filter((letter) => isNamed(letter, id)));
  }
  const statuses = found.map(async (letter): Promise<FoundLetter> => {
    const letters = entities.of(letter);
    if (letters === null) return { letter, status: null };
    const [snapshot] = await snapshotsOf(options.store, [letters.entity]);
    return { letter, status: statusOf(summaryOf(letter), letters, snapshot!, options.firstSequence) };
  });
  return Promise.all(statuses);
}

export interface ReadyOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load'>;
  /** Only letters from these shards. */
  readonly shards: ReadonlySet<number>;
  /** The reading ends when this many entities are found. */
  readonly maxEntities: number;
}

export interface ReadyEntities {
  readonly entities: readonly EntityRef[];
  /** False when there may be more. */
  readonly complete: boolean;
}

/**
 * Entities that are parked, not being replayed, and whose next event is a dead letter that only lacked a predecessor.
 * @throws UnavailableError when broker or store become unavailable.
 */
export async function findReadyEntities(options: ReadyOptions): Promise<ReadyEntities> {
  const { shards, store, maxEntities, signal } = options;
  const found = new Map<string, EntityRef>();
  for await (const letters of listDeadLetters(options)) {
    const waiting = letters.filter(isWaiting).filter(({ shard }) => shard !== null && shards.has(shard));
    const snapshots = await snapshotsOf(store, waiting);
    for (const [index, { entityType, entityId, sequence }] of waiting.entries()) {
      const { version, parked } = snapshots[index]!;
      if (parked === null || parked.replaying || sequence !== version + 1) continue;
      found.set(entityKey({ entityType, entityId }), { entityType, entityId });
    }
    if (found.size >= maxEntities) return { entities: [...found.values()], complete: false };
  }
  return { entities: [...found.values()], complete: signal?.aborted !== true };
}

/**
 * Collects summaries of dead letters by entity. A letter whose sequence cannot be read is listed with every entity of its id:
 * it may be the event that one of them waits for.
 */
export class EntityLetters {
  readonly #byName = new Map<string, LettersOfEntity>();
  /** By entity id. */
  readonly #unread = new Map<string, LetterSummary[]>();

  /** `isMatched` decides to which of the entity's lists it is added. False when it has no entity or no sequence. */
  add(letter: LetterSummary, isMatched: boolean): boolean {
    const { entityType, entityId, sequence } = letter;
    if (entityType === null || entityId === null || sequence === null) {
      if (entityId !== null) this.#unreadOf(entityId).push(letter);
      return false;
    }
    const name = entityKey({ entityType, entityId });
    let letters = this.#byName.get(name);
    if (letters === undefined) {
      letters = { entity: { entityType, entityId }, matched: [], others: [], unread: this.#unreadOf(entityId) };
      this.#byName.set(name, letters);
    }
    (isMatched ? letters.matched : letters.others).push(letter);
    return true;
  }

  of({ entityType, entityId }: Pick<LetterSummary, 'entityType' | 'entityId'>): LettersOfEntity | null {
    return entityType === null || entityId === null ? null : (this.#byName.get(entityKey({ entityType, entityId })) ?? null);
  }

  unreadOf(entityId: string): readonly LetterSummary[] {
    return this.#unread.get(entityId) ?? [];
  }

  all(): readonly LettersOfEntity[] {
    return [...this.#byName.values()];
  }

  #unreadOf(entityId: string): LetterSummary[] {
    const unread = this.#unread.get(entityId) ?? [];
    if (unread.length === 0) this.#unread.set(entityId, unread);
    return unread;
  }
}

function shardOf(stream: string, queue: string): number | null {
  const shard = Number(/\d+$/.exec(queue)?.[0]);
  return Number.isSafeInteger(shard) && shardQueueName(stream, shard) === queue ? shard : null;
}

export interface SurveyOptions extends Omit<InspectOptions, 'store' | 'limit'> {
  readonly store: Pick<Store, 'findDeadLetters' | 'load' | 'lookUp'>;
  readonly filter: LetterFilter;
  /** Letters to consider; the others are ignored. Default: all. */
  readonly concerns?: (letter: DeadLetter) => boolean;
  /** For a replay: only the matched letters, without the others of their entities. Default false. */
  readonly only?: boolean;
  /** For a replay: only entities with a letter that can be applied now, because the missing event has arrived. Default false. */
  readonly readyOnly?: boolean;
  readonly firstSequence: FirstSequence;
  /** The violation strategy of the stream's workers, which decides about holes. Default `buffer`. */
  readonly strategy?: ViolationStrategy;
  /** The source of missing events. Default: none. */
  readonly source?: MissingEventsReader;
  /** Called with the number of letters read so far. */
  readonly onProgress?: (read: number) => void;
}

/** Returns the missing events that a source has, in the order of their sequences. */
export type MissingEventsReader = (missing: MissingEvents) => Promise<readonly EncodedEvent[]>;

export interface Survey {
  readonly entities: readonly LettersOfEntity[];
  /** Matched letters without a readable entity or sequence, in the order of the queue. */
  readonly unordered: readonly LetterSummary[];
}

/** The number of matched letters. */
export function countMatched({ entities, unordered }: Survey): number {
  return entities.reduce((sum, { matched }) => sum + matched.length, unordered.length);
}

/** `toCopy`: whether the letters may be published again; then their copies are computed. */
export async function surveyLetters(options: SurveyOptions, toCopy = false): Promise<Survey> {
  const { filter, concerns = () => true, onProgress } = options;
  const entities = new EntityLetters();
  const unordered: LetterSummary[] = [];
  let read = 0;
  for await (const letters of listDeadLetters(options)) {
    for (const letter of letters.filter(concerns)) {
      const isMatched = matches(letter, filter);
      const summary = summaryOf(letter, toCopy ? copyOf(letter, options.decoding) : undefined);
      if (!entities.add(summary, isMatched) && isMatched) unordered.push(summary);
    }
    read += letters.length;
    onProgress?.(read);
  }
  return { entities: entities.all().filter(({ matched }) => matched.length > 0), unordered };
}

/**
 * A filter that matches a letter chooses its whole entity: the letters behind a failed one only wait for it, and are replayed with
 * it. Letters that are not replayable stay.
 */
export async function planReplay(options: SurveyOptions): Promise<ReplayPlan> {
  const { store, firstSequence, source, only = false, readyOnly = false, strategy = 'buffer' } = options;
  const survey = await surveyLetters(options, true);
  const whole = (letters: LettersOfEntity) => ({ ...letters, matched: [...letters.matched, ...letters.others], others: [] });
  const chosen = only ? survey.entities : survey.entities.map(whole);
  const snapshots = await snapshotsOf(
    store,
    chosen.map(({ entity }) => entity),
  );
  const { entities, notReplayable: ofEntities } = await splitReplayable(chosen, snapshots, store, strategy);
  const { unordered, notReplayable: ofNone } = unorderedOf(survey, only ? [] : chosen);
  const plans: EntityReplay[] = [];
  for (const [index, letters] of entities.entries()) {
    if (letters.matched.length === 0) continue;
    const plan = planEntity(letters, snapshots[index]!, firstSequence);
    plans.push(source === undefined ? plan : await withFetched(plan, letters, snapshots[index]!, source, options));
  }
  if (!readyOnly) return { entities: plans, unordered, notReplayable: [...ofEntities, ...ofNone] };
  return { entities: plans.filter(isReady), unordered: [], notReplayable: [] };
}

/** The letters without a place in an entity's order, including the unread ones of the chosen entities. */
function unorderedOf({ unordered }: Survey, chosen: readonly LettersOfEntity[]): Required<Pick<ReplayPlan, 'unordered' | 'notReplayable'>> {
  const mayBeOf = ({ entityType }: LetterSummary, { entity }: LettersOfEntity) => entityType === null || entityType === entity.entityType;
  const beside = chosen.flatMap((letters) => letters.unread.filter((letter) => mayBeOf(letter, letters)));
  const all = [...new Set([...unordered, ...beside])].map((letter) => ({ letter, why: whyNotReplayable(letter, 0) }));
  return {
    unordered: all.filter(({ why }) => why === null).map(({ letter }) => letter),
    notReplayable: all.flatMap(({ letter, why }) => (why === null ? [] : [{ letter, why }])),
  };
}

/** Separates the letters that are not replayable; they are moved to `others`. */
export async function splitReplayable(
  entities: readonly LettersOfEntity[],
  snapshots: readonly Snapshot[],
  store: Pick<Store, 'lookUp'>,
  strategy: ViolationStrategy,
): Promise<{ readonly entities: readonly LettersOfEntity[]; readonly notReplayable: readonly NotReplayable[] }> {
  const why = new Map<LetterSummary, string>();
  const asked: { readonly letter: LetterSummary; readonly floor: number }[] = [];
  for (const [index, { matched }] of entities.entries()) {
    const { version, holes: text } = snapshots[index]!;
    const holes = Holes.parse(text);
    for (const letter of matched) {
      const isPassed = letter.sequence !== null && letter.sequence <= version;
      const isHole = isPassed && holes.has(letter.sequence);
      const known = isHole ? whyNotInHole(letter, strategy) : whyNotReplayable(letter, version);
      if (known !== null) why.set(letter, known);
      else if (isPassed && !isHole) asked.push({ letter, floor: holes.floor });
    }
  }
  const lookedUp = await lookUpLetters(
    asked.map(({ letter }) => letter),
    store,
  );
  for (const { letter, floor } of asked) {
    const known = whyPassed(letter, lookedUp.get(letter), floor);
    if (known !== null) why.set(letter, known);
  }
  if (why.size === 0) return { entities, notReplayable: [] };
  return {
    entities: entities.map(({ matched, others, ...entity }) => ({
      ...entity,
      matched: matched.filter((letter) => !why.has(letter)),
      others: [...others, ...matched.filter((letter) => why.has(letter))],
    })),
    notReplayable: [...why].map(([letter, reason]) => ({ letter, why: reason })),
  };
}

const lookupBatch = 500;

/** What the store remembers of the sequences of these letters, or of their ids if they have no sequence. */
export async function lookUpLetters(
  letters: readonly LetterSummary[],
  store: Pick<Store, 'lookUp'>,
): Promise<ReadonlyMap<LetterSummary, LookupResult>> {
  const found = new Map<LetterSummary, LookupResult>();
  for (let at = 0; at < letters.length; at += lookupBatch) {
    const batch = letters.slice(at, at + lookupBatch);
    const queryOf = ({ entityType, entityId, sequence, messageId }: LetterSummary) => {
      return { entityType: entityType ?? '', entityId: entityId ?? '', sequence, id: messageId };
    };
    const results = await store.lookUp(batch.map(queryOf));
    for (const [index, letter] of batch.entries()) found.set(letter, results[index]!);
  }
  return found;
}

/** Entities that lack more events than this stay blocked. */
const maxFetched = 10_000;
const maxPerRead = 500;
const neverAborted = new AbortController().signal;

/** The plan with the source's events, as far as they make more letters replayable. */
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
    // If one is still missing, no further letter is replayable.
    if (found.length < next - from) return best;
    fetched = [...fetched, ...found];
    best = planEntity(letters, snapshot, firstSequence, fetched);
  }
  return best;
}
