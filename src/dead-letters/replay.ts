/**
 * Carries out a plan: publishes its letters again and removes them from the queue, per entity in the order of its sequences; then
 * waits until the workers have decided. A letter is removed once the broker has confirmed its copy, so a crash loses neither; a
 * second copy is a duplicate for the worker.
 *
 * From before the first letter of an entity is published until the last copy has arrived, its worker holds the entity's other
 * events. If the replay dies, this ends by itself: `leaseMs` later, once the published copies have arrived. If a
 * letter fails again, its entity is parked again and no more of its letters are published.
 *
 * An entity is done when its version has passed the last replayed letter, or when it was parked again. The store then shows for each
 * letter whether it was applied or dead-lettered again, and the queue shows whether letters of its entity are left.
 */
import { UnavailableError } from '../errors.ts';
import type { EncodedEvent } from '../events/encode.ts';
import { entityKey } from '../events/identity.ts';
import type { DeadLetterRecord, Snapshot } from '../ordering/entity.ts';
import { Pacer } from '../publishing/publish-input.ts';
import type { AmqpPublisher, PublishOutcome } from '../rabbitmq/publisher.ts';
import { deadLetterQueueName } from '../rabbitmq/topology-plan.ts';
import { type AuditEntry, snapshotsOf, type Store } from '../stores/store.ts';
import { every, type Patience, patiently, sleep, type Time, type Timer } from '../time.ts';
import { type DeadLetterReason, messageToReplay } from './dead-letter.ts';
import { copiesOf, Drain, type TakenLetter } from './drain.ts';
import { type InspectOptions, listDeadLetters, lookUpLetters } from './inspect.ts';
import type { Connection } from './queue-reading.ts';
import { asCopied, countLetters, type EntityReplay, type LetterSummary, type ReplayPlan } from './replay-plan.ts';

export interface ReplayOptions {
  readonly connection: Connection;
  /** Publishes to the stream's exchange. */
  readonly publisher: Pick<AmqpPublisher, 'publish'>;
  readonly stream: string;
  readonly store: Pick<Store, 'operator' | 'findDeadLetters'>;
  /** For the audit trail. */
  readonly who: string;
  /** For the audit trail. Default: empty. */
  readonly why?: string;
  /** Most letters per second. Default: no limit. */
  readonly ratePerSecond?: number;
  /** How long workers hold events after the last renewal by the replay, in milliseconds. Default 30,000. */
  readonly leaseMs?: number;
  /** Messages per page of the readings. Default: that of readings. */
  readonly pageSize?: number | undefined;
  /** Ends the replay after the letters that are being published. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (replayed: number, total: number) => void;
  readonly time: Time;
}

export interface ReplayReport {
  readonly replayed: number;
  /** Letters of the plan that were not replayed: gone from the queue, not reached, or behind a letter that failed again. */
  readonly left: number;
  /** The published letters, each with the time of its last dead-lettering before (by the worker's clock), or null. */
  readonly sent: ReadonlyMap<LetterSummary, string | null>;
}

const defaultLeaseMs = 30_000;
/** How long the store may be unavailable before the replay ends: less than the broker and the held events can wait. */
const storePatienceMs = 10_000;

/**
 * The audit entry is written before the first letter is published.
 *
 * @throws UnavailableError when broker or store become unavailable, or the exchange has no queue for a letter: the other letters
 *   stay in the queue.
 */
export async function replay(plan: ReplayPlan, options: ReplayOptions): Promise<ReplayReport> {
  const { replayable } = countLetters(plan);
  if (replayable === 0 || options.signal?.aborted) return { replayed: 0, left: replayable, sent: new Map() };
  await options.store.operator.appendAudit([replayEntry(plan, options.who, options.why ?? '')]);
  const run = new ReplayRun(plan, options);
  try {
    // Letters that come too early and do not fit into memory, or that one reading does not reach, are left for the next reading.
    while (run.remaining > 0 && options.signal?.aborted !== true && (await run.read()));
  } finally {
    run.end();
  }
  return { replayed: run.replayed, left: run.left, sent: run.sent };
}

/** The entry in the audit trail. */
function replayEntry(plan: ReplayPlan, who: string, why: string): AuditEntry {
  const { replayable } = countLetters(plan);
  const fetched = plan.entities.reduce((sum, entity) => sum + entity.fetched.length, 0);
  const source = fetched === 0 ? '' : `, with ${fetched} missing ${fetched === 1 ? 'event' : 'events'} from the source`;
  const letters = `replays ${replayable} dead ${replayable === 1 ? 'letter' : 'letters'}${source}`;
  const entities = plan.entities.filter((entity) => entity.letters.length > 0);
  const [only] = entities;
  if (only !== undefined && entities.length === 1 && plan.unordered.length === 0) {
    return { action: 'replay', who, ...only.entity, what: letters, reason: why };
  }
  return { action: 'replay', who, entityType: null, entityId: null, what: `${letters} of ${entities.length} entities`, reason: why };
}

class ReplayRun {
  readonly #options: ReplayOptions;
  readonly #patience: Patience;
  readonly #drain: Drain;
  readonly #total: number;
  readonly #entityOf = new Map<string, EntityReplay>();
  readonly #pacer: Pacer | null;
  /** When the next letter may be published, by the monotonic clock; kept across readings. */
  #dueMs: number | null = null;
  readonly #leaseMs: number;
  readonly #renewal: Timer;
  /** Entities with published letters and more to publish, with the number of the latter. */
  readonly #under = new Map<EntityReplay, number>();
  /** The highest sequence of a published copy. */
  readonly #replayedTo = new Map<EntityReplay, number>();
  /** Entities that were parked again since the plan was made. */
  readonly #failed = new Set<EntityReplay>();
  /** How many of an entity's fetched events have been published. */
  readonly #fetchedSent = new Map<EntityReplay, number>();
  readonly sent = new Map<LetterSummary, string | null>();

  constructor(plan: ReplayPlan, options: ReplayOptions) {
    this.#options = options;
    this.#patience = { time: options.time, signal: options.signal, timeoutMs: storePatienceMs };
    this.#total = countLetters(plan).replayable;
    this.#drain = new Drain([...plan.entities.map(({ letters }) => letters), ...copiesOf(plan.unordered)]);
    for (const entity of plan.entities) for (const { fingerprint } of entity.letters) this.#entityOf.set(fingerprint, entity);
    this.#pacer = options.ratePerSecond === undefined ? null : new Pacer(options.ratePerSecond);
    this.#leaseMs = options.leaseMs ?? defaultLeaseMs;
    this.#renewal = every(options.time, this.#leaseMs / 3, () => void this.#renew());
  }

  /** The number of letters not reached yet, or still in the queue although their copies were published. */
  get remaining(): number {
    return this.#drain.remaining;
  }

  get replayed(): number {
    return this.sent.size;
  }

  /** The number of letters that were not replayed. */
  get left(): number {
    return this.#total - this.replayed;
  }

  end(): void {
    this.#renewal.cancel();
  }

  /** One reading of the queue. Returns whether another one may get further. */
  async read(): Promise<boolean> {
    const { connection, stream, signal, time, pageSize } = this.#options;
    const where = { queue: deadLetterQueueName(stream), time, pageSize };
    const before = this.remaining;
    const end = await this.#drain.readOnce(
      connection,
      where,
      async (taken) => {
        if (this.#pacer === null) await this.#replay(taken);
        else for (const letter of taken) await this.#replayPaced(this.#pacer, letter);
      },
      signal,
    );
    return this.remaining < before || end === 'expired';
  }

  async #replayPaced(pacer: Pacer, letter: TakenLetter): Promise<void> {
    const { signal, time } = this.#options;
    if (signal?.aborted || !letter.isOpen) return;
    const nowMs = time.nowMs();
    this.#dueMs ??= nowMs + pacer.delayMs(nowMs);
    if (this.#dueMs > nowMs) await sleep(time, this.#dueMs - nowMs, signal);
    if (signal?.aborted || !letter.isOpen) return;
    this.#dueMs = null;
    await this.#replay([letter]);
  }

  async #replay(met: readonly TakenLetter[]): Promise<void> {
    const { publisher, store, onProgress } = this.#options;
    const entities = new Set(met.flatMap(({ letter }) => this.#entityOf.get(letter.fingerprint) ?? []));
    for (const entity of entities) if (!this.#under.has(entity)) this.#under.set(entity, entity.letters.length);
    await patiently(() => this.#hold([...entities]), this.#patience);
    const taken = met.filter((letter) => this.#takeOrLeave(letter));
    if (taken.length === 0) return;
    // Before publishing: a replay that is counted but did not happen does no harm.
    const copies = taken.map(({ letter }) => asCopied(letter));
    const before = await patiently(() => store.findDeadLetters(copies), this.#patience);
    await patiently(() => store.operator.noteReplays(copies), this.#patience);
    const fetched: Promise<PublishOutcome>[] = [];
    const published = taken.map(({ letter, message }) => {
      for (const event of this.#fetchedBefore(letter)) fetched.push(publisher.publish(event));
      return publisher.publish(messageToReplay(message, letter.entityId));
    });
    const outcomes = await Promise.all(published);
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.status !== 'confirmed') continue;
      taken[index]!.remove();
      this.#noteSent(taken[index]!, before[index]?.record?.deadLetteredAt ?? null);
    }
    onProgress?.(this.replayed, this.#total);
    const [refused] = [...(await Promise.all(fetched)), ...outcomes].filter(({ status }) => status !== 'confirmed');
    if (refused?.status === 'failed') throw refused.error;
    if (refused?.status === 'returned') {
      throw new UnavailableError(`the exchange has no queue for a letter (${refused.detail}): run \`inorder topology check\``);
    }
    // The copies are published: the workers now wait for them, even if this process ends.
    await patiently(() => this.#hold([...entities]), this.#patience);
  }

  /** False when its reading has ended (the letter is met again), and for entities that have failed. */
  #takeOrLeave(taken: TakenLetter): boolean {
    const entity = this.#entityOf.get(taken.letter.fingerprint);
    if (entity === undefined || !this.#failed.has(entity)) return taken.isOpen;
    this.#under.delete(entity);
    taken.leave();
    return false;
  }

  /** Fetched events that precede the letter and were not published yet. */
  *#fetchedBefore({ fingerprint, sequence }: LetterSummary): Generator<EncodedEvent> {
    const entity = this.#entityOf.get(fingerprint);
    if (entity === undefined || entity.fetched.length === 0 || sequence === null) return;
    let next = this.#fetchedSent.get(entity) ?? 0;
    for (; next < entity.fetched.length && entity.fetched[next]!.event.sequence! < sequence; next++) yield entity.fetched[next]!;
    this.#fetchedSent.set(entity, next);
  }

  #noteSent({ letter }: TakenLetter, diedAt: string | null): void {
    const { fingerprint, sequence } = letter;
    this.sent.set(letter, diedAt);
    const entity = this.#entityOf.get(fingerprint);
    if (entity === undefined) return;
    if (sequence !== null) this.#replayedTo.set(entity, Math.max(this.#replayedTo.get(entity) ?? sequence, sequence));
    const more = (this.#under.get(entity) ?? 0) - 1;
    if (more > 0) this.#under.set(entity, more);
    else this.#under.delete(entity);
  }

  /** Only parked entities: the others have no letters that an event could follow. */
  async #hold(entities: readonly EntityReplay[]): Promise<void> {
    const parked = entities.filter((entity) => entity.parked !== null && !this.#failed.has(entity));
    if (parked.length === 0) return;
    const replays = parked.map((replay) => ({ ...replay.entity, parkedAt: replay.parked?.at, replayedTo: this.#replayedTo.get(replay) }));
    const results = await this.#options.store.operator.beginReplay(replays, this.#leaseMs);
    for (const [index, result] of results.entries()) {
      if (result.status === 'failed') throw new UnavailableError(result.error.message, { cause: result.error });
      const replay = parked[index]!;
      const now = result.snapshot.parked;
      if (now !== null && now.at !== replay.parked?.at) this.#failed.add(replay);
    }
  }

  /** A store that is unavailable for a moment is asked again at the next renewal. */
  async #renew(): Promise<void> {
    await this.#hold([...this.#under.keys()]).catch(() => undefined);
  }
}

/** A letter that was replayed and dead-lettered again. */
export interface LetterAgain {
  readonly letter: LetterSummary;
  readonly reason: DeadLetterReason;
  readonly detail: string;
}

export interface EntityOutcome {
  readonly replay: EntityReplay;
  readonly now: Snapshot;
  /**
   * `recovered`: all replayed letters are applied, the entity is not parked, and the queue has no letter of it. `passed`: all
   * replayed letters are applied; other letters of the entity are left. `parked-again`: a letter was dead-lettered again, and the
   * entity is parked for it. `dead-lettered-again`: the same, without parking. `undecided`: not all letters are processed yet.
   */
  readonly status: 'recovered' | 'passed' | 'parked-again' | 'dead-lettered-again' | 'undecided';
  readonly again: readonly LetterAgain[];
  /** The number of its letters in the queue now; counted only if it seems recovered. */
  readonly left: number;
}

export interface ReplayOutcome {
  readonly entities: readonly EntityOutcome[];
  /** Of the letters without a sequence: those that were dead-lettered again, and the number not yet processed. */
  readonly unordered: { readonly again: readonly LetterAgain[]; readonly undecided: number };
}

export interface OutcomeOptions extends Omit<InspectOptions, 'limit'> {
  readonly store: Pick<Store, 'load' | 'lookUp' | 'findDeadLetters'>;
  /** How long to wait while nothing more is processed, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number;
}

/** Whether the whole plan was carried out and all of it is applied. */
export function isDone(plan: ReplayPlan, { replayed }: Pick<ReplayReport, 'replayed'>, { entities, unordered }: ReplayOutcome): boolean {
  const isApplied = ({ status }: EntityOutcome) => status === 'recovered' || status === 'passed';
  return replayed === countLetters(plan).replayable && unordered.again.length + unordered.undecided === 0 && entities.every(isApplied);
}

const defaultTimeoutMs = 30_000;
const pollMs = 100;
const batchSize = 500;

/** @throws UnavailableError when the store is unavailable for longer than that, or the broker becomes unavailable. */
export async function awaitOutcomes(
  plan: ReplayPlan,
  { sent }: Pick<ReplayReport, 'sent'>,
  options: OutcomeOptions,
): Promise<ReplayOutcome> {
  const { store, timeoutMs = defaultTimeoutMs, signal, time } = options;
  const entities = plan.entities.filter(({ letters }) => letters.length > 0);
  const outcomes = new Map<EntityReplay, EntityOutcome>();
  const verdicts: Verdicts = new Map(plan.unordered.filter((letter) => sent.has(letter)).map((letter) => [letter, 'pending']));
  const loose = [...verdicts.keys()];
  const pendingLoose = () => loose.filter((letter) => verdicts.get(letter) === 'pending').length;
  const openOnes = () => entities.filter((replay) => isOpen(outcomes.get(replay)));
  const versionOf = (replay: EntityReplay) => outcomes.get(replay)?.now.version;
  const stateOf = (open: readonly EntityReplay[]) => JSON.stringify([pendingLoose(), open.map(versionOf)]);
  for (let deadlineMs = time.nowMs() + timeoutMs; ; ) {
    const open = openOnes();
    const before = stateOf(open);
    const ask = async () => {
      const snapshots = await snapshotsOf(
        store,
        open.map(({ entity }) => entity),
      );
      const reached = open.filter((replay, index) => isReached(replay, snapshots[index]!, sent));
      await judge(
        [...loose.filter((letter) => typeof verdicts.get(letter) !== 'object'), ...reached.flatMap((replay) => sentOf(replay, sent))],
        sent,
        store,
        verdicts,
      );
      for (const [index, replay] of open.entries()) outcomes.set(replay, outcomeOf(replay, snapshots[index]!, sent, verdicts));
    };
    await patiently(ask, { time, signal, timeoutMs: Math.max(0, deadlineMs - time.nowMs()) });
    const left = openOnes();
    // Before the deadline is checked, because asking takes time as well.
    if (stateOf(left) !== before) deadlineMs = time.nowMs() + timeoutMs;
    const isOver = left.length + pendingLoose() === 0;
    if (isOver || signal?.aborted || time.nowMs() > deadlineMs) break;
    await sleep(time, pollMs, signal);
  }
  const unordered = { again: againOf(loose, verdicts), undecided: pendingLoose() };
  return { entities: await asTheQueueSays([...outcomes.values()], options), unordered };
}

type Sent = ReplayReport['sent'];

/** An entity is parked a moment before its letter's record is written. */
function isOpen(outcome: EntityOutcome | undefined): boolean {
  return outcome === undefined || outcome.status === 'undecided' || (outcome.status === 'parked-again' && outcome.again.length === 0);
}

const sentOf = (replay: EntityReplay, sent: Sent) => replay.letters.filter((letter) => sent.has(letter));

function lastSequenceOf(letters: readonly LetterSummary[]): number {
  return letters.reduce((highest, { sequence }) => Math.max(highest, sequence ?? highest), Number.NEGATIVE_INFINITY);
}

const isParkedAgain = (replay: EntityReplay, now: Snapshot) => now.parked !== null && now.parked.at !== replay.parked?.at;

/** Whether the workers have processed the last of its letters, or cannot get any further. */
function isReached(replay: EntityReplay, now: Snapshot, sent: Sent): boolean {
  return now.version >= lastSequenceOf(sentOf(replay, sent)) || isParkedAgain(replay, now);
}

function outcomeOf(replay: EntityReplay, now: Snapshot, sent: Sent, verdicts: Verdicts): EntityOutcome {
  const letters = sentOf(replay, sent);
  const again = isReached(replay, now, sent) ? againOf(letters, verdicts) : [];
  const outcome = { replay, now, again, left: 0 };
  if (!isReached(replay, now, sent)) return { ...outcome, status: 'undecided' };
  const isParkedForIt = isParkedAgain(replay, now) && again.length > 0;
  if (now.version < lastSequenceOf(letters) || isParkedForIt) return { ...outcome, status: 'parked-again' };
  if (letters.some((letter) => verdicts.get(letter) === 'pending')) return { ...outcome, status: 'undecided' };
  if (again.length > 0) return { ...outcome, status: 'dead-lettered-again' };
  return { ...outcome, status: now.parked === null ? 'recovered' : 'passed' };
}

type Verdicts = Map<LetterSummary, 'applied' | 'pending' | LetterAgain>;

function againOf(letters: readonly LetterSummary[], verdicts: Verdicts): readonly LetterAgain[] {
  return letters.flatMap((letter) => {
    const verdict = verdicts.get(letter);
    return typeof verdict === 'object' ? [verdict] : [];
  });
}

/**
 * For letters whose sequences the version has reached: whether each was dead-lettered again since it was sent, applied, or neither.
 * A record is written before the rejection, so a letter without a record may still be rejected.
 */
async function judge(letters: readonly LetterSummary[], sent: Sent, store: OutcomeOptions['store'], verdicts: Verdicts): Promise<void> {
  const rest: LetterSummary[] = [];
  for (let at = 0; at < letters.length; at += batchSize) {
    const batch = letters.slice(at, at + batchSize);
    const found = await store.findDeadLetters(batch.map(asCopied));
    for (const [index, letter] of batch.entries()) {
      const record: DeadLetterRecord | null = found[index]?.record ?? null;
      const isAgain = record !== null && record.deadLetteredAt !== sent.get(letter);
      if (isAgain) verdicts.set(letter, { letter, reason: record.reason, detail: record.detail });
      else rest.push(letter);
    }
  }
  const lookedUp = await lookUpLetters(rest, store);
  const isPending = (letter: LetterSummary) => {
    const verdict = lookedUp.get(letter);
    if (verdict?.status === 'known') return letter.copy?.payloadHash != null && verdict.payloadHash !== letter.copy.payloadHash;
    // A forgotten sequence was applied; an unknown id was not processed yet.
    return verdict?.status === 'unknown' && letter.sequence === null;
  };
  for (const letter of rest) verdicts.set(letter, isPending(letter) ? 'pending' : 'applied');
}

/** An entity that seems recovered is so only if the queue has no letter of it. */
async function asTheQueueSays(outcomes: readonly EntityOutcome[], options: OutcomeOptions): Promise<readonly EntityOutcome[]> {
  const recovered = outcomes.filter(({ status }) => status === 'recovered');
  const left = new Map(recovered.map(({ replay }) => [entityKey(replay.entity), 0]));
  // Their entity type is unknown, so no entity with that id counts as recovered.
  const ofUnreadType = new Map(recovered.map(({ replay }) => [replay.entity.entityId, 0]));
  if (left.size === 0) return outcomes;
  if (options.signal?.aborted) {
    return outcomes.map((outcome) => (outcome.status === 'recovered' ? { ...outcome, status: 'undecided' } : outcome));
  }
  for await (const page of listDeadLetters(options)) {
    for (const { entityType, entityId } of page) {
      if (entityId === null) continue;
      if (entityType === null) countUp(ofUnreadType, entityId);
      else countUp(left, entityKey({ entityType, entityId }));
    }
  }
  return outcomes.map((outcome) => {
    const { entity } = outcome.replay;
    const count = (left.get(entityKey(entity)) ?? 0) + (ofUnreadType.get(entity.entityId) ?? 0);
    return outcome.status !== 'recovered' || count === 0 ? outcome : { ...outcome, status: 'passed', left: count };
  });
}

function countUp(counts: Map<string, number>, name: string): void {
  const count = counts.get(name);
  if (count !== undefined) counts.set(name, count + 1);
}
