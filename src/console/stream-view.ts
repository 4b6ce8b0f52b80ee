/**
 * Everything that the console shows of a stream, as JSON, from broker, store and workers, each asked once for all
 * browsers. Read-only.
 */
import type { ChannelModel } from 'amqplib';
import type { Config } from '../config/config.ts';
import type { DeadLetter } from '../dead-letters/dead-letter.ts';
import type { DeadLetters } from '../dead-letters/dead-letters.ts';
import { statusOf, summaryOf } from '../dead-letters/replay-plan.ts';
import { messageOf } from '../errors.ts';
import { entityFields, type EntityRef, type RawMessage } from '../events/event.ts';
import { gapOf, isReport, type ShardStatus, type WorkerAnswer } from '../observability/worker-status.ts';
import { managementOf } from '../rabbitmq/management.ts';
import { streamDepths, whyNobodyConsumes, type QueueDepth } from '../rabbitmq/queue-depths.ts';
import { shardQueueNames } from '../rabbitmq/topology-plan.ts';
import { haltText, auditFields, type AuditRecord, type Halt, snapshotsOf, type Store } from '../stores/store.ts';
import type { Time } from '../time.ts';
import { LetterCatalogue, SharedReading } from './letter-catalogue.ts';
import { detailFields, groupFields, listFields, payloadFields, summaryFields, isFound, type LetterSearch } from './letter-json.ts';
import type { AuditEntry, Entity, LetterDetail, Letters, Overview, ParkedList, Shard } from './page/answers.d.ts';
import { timelineOf } from './timeline.ts';

export interface StreamViewOptions {
  readonly config: Config;
  readonly sources: {
    readonly time: Time;
    /** Opened when it is first read. */
    readonly store: Store;
    readonly letters: Pick<DeadLetters, 'busy' | 'exclusively'>;
    /** @throws UnavailableError when there is no connection to the broker, or it is lost. */
    withBroker<T>(use: (connection: ChannelModel) => Promise<T>): Promise<T>;
  };
  readonly workers: () => Promise<readonly AskedWorker[]>;
}

const maxListed = 500;
const maxParked = 1_000;
const maxAudit = 200;

export class StreamView {
  readonly #options: StreamViewOptions;
  readonly #shardQueues: readonly string[];
  readonly #depths: SharedReading<Awaited<ReturnType<typeof streamDepths>>>;
  readonly #workers: SharedReading<{ readonly atMs: number; readonly asked: readonly AskedWorker[] }>;
  readonly #consumers: SharedReading<ReadonlyMap<string, string> | null>;
  readonly #halts: SharedReading<readonly Halt[]>;
  readonly #parked: SharedReading<ParkedList>;
  readonly catalogue: LetterCatalogue;
  /** During a reading of the dead letters the broker does not count those that are held. */
  #deadLettersReady: number | null = null;

  constructor(options: StreamViewOptions) {
    this.#options = options;
    const { workers, config, sources } = options;
    const { time } = sources;
    const shared = <T>(minAgeMs: number, read: () => Promise<T>) => new SharedReading({ time, minAgeMs, read });
    this.#shardQueues = shardQueueNames(config.broker);
    this.#depths = shared(900, () => this.#readDepths());
    this.#workers = shared(900, async () => ({ asked: await workers(), atMs: time.nowMs() }));
    this.#consumers = shared(5_000, () => this.#readConsumers());
    this.#halts = shared(2_000, async () => (await sources.store.streamState()).halts);
    this.#parked = shared(5_000, () => this.#readParked());
    this.catalogue = new LetterCatalogue({ time, read: (each) => this.#readLetters(each) });
  }

  /** `watchesLetters`: dead letters are being looked at, so they may be read again. */
  async overview(watchesLetters: boolean): Promise<Overview> {
    const [depths, workers, consumers, halts] = await Promise.all([
      this.#depths.get(),
      this.#workers.get(),
      this.#consumers.get(),
      this.#halts.get(),
    ]);
    const asked = workers.ok ? workers.value.asked : [];
    const input = {
      workers: asked,
      depths: depths.ok ? depths.value.shards : null,
      activeConsumers: consumers.ok ? consumers.value : null,
    };
    if (watchesLetters && depths.ok) this.catalogue.look(this.#deadLettersReady);
    const shards = shardRows(this.#shardQueues, input);
    const { catalogue, reading, trouble } = this.catalogue;
    return {
      stream: this.#options.config.broker.stream,
      at_ms: workers.ok ? Math.round(workers.value.atMs) : null,
      problems: [
        ...[depths, workers, halts].flatMap((one) => (one.ok ? [] : [messageOf(one.error)])),
        ...(input.depths ?? []).flatMap(whyNobodyConsumes),
        ...(halts.ok ? halts.value.map(haltText) : []),
      ],
      workers: asked.map(({ name, report }) => ({
        name,
        state: isReport(report) ? report.state : report === null ? null : 'it refuses the READ_TOKEN of this console',
        not_ready: isReport(report) ? report.not_ready : [],
      })),
      shards,
      gaps: gapRows(shards, input),
      unrouted: depths.ok ? depths.value.unrouted.ready : null,
      dead_letters: { ready: this.#deadLettersReady, revision: catalogue?.revision ?? 0, reading, trouble },
    };
  }

  async parked(): Promise<ParkedList> {
    const reading = await this.#parked.get();
    if (!reading.ok) throw reading.error;
    return reading.value;
  }

  /** The found letters, oldest first, and the groups of all; null before the first reading. */
  letters(search: LetterSearch): Letters | null {
    const { catalogue } = this.catalogue;
    if (catalogue === null) return null;
    const { revision, asOf, total, letters } = catalogue;
    const found = letters.filter((letter) => isFound(letter, search));
    return {
      revision,
      as_of: asOf,
      total,
      kept: letters.length,
      found: found.length,
      groups: groupFields(catalogue),
      letters: found.slice(0, maxListed).map(listFields),
    };
  }

  /** Null if the last reading had no such fingerprint. */
  async letter(fingerprint: string, withPayload: boolean): Promise<LetterDetail | null> {
    const { catalogue } = this.catalogue;
    const copies = catalogue?.letters.filter((letter) => letter.fingerprint === fingerprint) ?? [];
    const [letter] = copies;
    if (catalogue === null || letter === undefined) return null;
    const ofEntity = catalogue.entities.of(letter);
    const [snapshot] = ofEntity === null ? [] : await snapshotsOf(this.#options.sources.store, [ofEntity.entity]);
    const { firstSequence } = this.#options.config.ordering;
    const isKnown = ofEntity !== null && snapshot !== undefined;
    const status = isKnown ? statusOf(summaryOf(letter), ofEntity, snapshot, firstSequence) : null;
    const detail = detailFields(letter, copies.length, status);
    if (!withPayload) return { ...detail, payload: null };
    const message = letter.bodyIsKept ? letter.message : await this.#readMessage(fingerprint);
    return message === null ? null : { ...detail, payload: payloadFields(message) };
  }

  async entity(entity: EntityRef): Promise<Entity> {
    const [[snapshot], workers] = await Promise.all([snapshotsOf(this.#options.sources.store, [entity]), this.#workers.get()]);
    const { exists, version, holes, parked } = snapshot!;
    const gap = gapOf(workers.ok ? workers.value.asked.map(({ report }) => report).filter(isReport) : [], entity);
    const entities = this.catalogue.catalogue?.entities;
    const unread = entities?.unreadOf(entity.entityId) ?? [];
    const letters = [...(entities?.of(entity)?.matched ?? []), ...unread];
    const { runs, passed, more } = timelineOf({
      version,
      firstSequence: this.#options.config.limits.firstSequence,
      holes,
      held: gap?.held_sequences ?? [],
      letters,
    });
    return {
      ...entityFields(entity),
      exists,
      version,
      holes,
      parked,
      gap,
      dead_letters: letters.length,
      unread: unread.length,
      letters_as_of: this.catalogue.catalogue?.asOf ?? null,
      runs,
      more,
      passed: passed.slice(0, maxListed).map((letter) => ({ ...summaryFields(letter), fingerprint: letter.fingerprint })),
    };
  }

  /** The audit trail, the latest first. */
  async audit(): Promise<{ readonly entries: readonly AuditEntry[] }> {
    const entries: AuditRecord[] = [];
    for await (const entry of this.#options.sources.store.operator.readAudit()) {
      entries.push(entry);
      if (entries.length === maxAudit) break;
    }
    return {
      entries: entries.map(auditFields),
    };
  }

  /** Call after a change: the known data are outdated. */
  outdate(): void {
    this.#parked.forget();
    this.catalogue.outdate();
  }

  async #readDepths() {
    const { config, sources } = this.#options;
    const wasReading = sources.letters.busy;
    const depths = await sources.withBroker((connection) => streamDepths(connection, config.broker, sources.time));
    if (!wasReading && !sources.letters.busy) this.#deadLettersReady = depths.deadLetters.ready;
    return depths;
  }

  async #readConsumers(): Promise<ReadonlyMap<string, string> | null> {
    const { config, sources } = this.#options;
    const management = config.broker.managementUrl === null ? null : managementOf(config.broker, sources.time);
    const answer = await management?.consumers();
    if (!answer?.ok) return null;
    const active = answer.value.filter(({ activity_status }) => activity_status === 'single_active');
    return new Map(active.map(({ queue, channel_details: from }) => [queue.name, `${from.peer_host}:${from.peer_port}`]));
  }

  async #readParked(): Promise<ParkedList> {
    const entities: ParkedList['entities'][number][] = [];
    let total = 0;
    let scanned = 0;
    for await (const { version, parked, ...entity } of this.#options.sources.store.listEntities({})) {
      scanned++;
      if (parked === null) continue;
      total++;
      if (entities.length < maxParked) entities.push({ ...entityFields(entity), version, parked });
    }
    return { entities: entities.sort((a, b) => (a.parked.at < b.parked.at ? 1 : -1)), total, scanned };
  }

  #readLetters(each: (letters: readonly DeadLetter[]) => void): Promise<void> {
    return this.#options.sources.letters.exclusively(async (letters) => {
      for await (const page of letters.list()) each(page);
    });
  }

  /** Reads the message again if its body was too large to be kept. */
  #readMessage(fingerprint: string): Promise<RawMessage | null> {
    return this.#options.sources.letters.exclusively(async (letters) => {
      for await (const page of letters.list({ filter: { ids: [fingerprint] } })) {
        const letter = page.find((one) => one.fingerprint === fingerprint);
        if (letter !== undefined) return letter.message;
      }
      return null;
    });
  }
}

/** A worker with its name in the console. */
export interface AskedWorker {
  readonly name: string;
  readonly report: WorkerAnswer;
}

/** What the overview is made of: the queues of the broker and the reports of the known workers. Unknown values are null. */
export interface OverviewInput {
  readonly workers: readonly AskedWorker[];
  /** The queues of the shards, in order; null if the broker did not answer. */
  readonly depths: readonly QueueDepth[] | null;
  /** The address of the active consumer by queue; null without the management API. */
  readonly activeConsumers: ReadonlyMap<string, string> | null;
}

/** The most gaps to list. */
const maxGaps = 200;

export function shardRows(queues: readonly string[], { workers, depths, activeConsumers }: OverviewInput): readonly Shard[] {
  return queues.map((queue, shard): Shard => {
    const reports = reportsOf(workers, shard);
    const consumers = depths?.[shard]?.consumers ?? null;
    const owner = ownerOf(reports, consumers);
    return {
      shard,
      queue,
      ready: depths?.[shard]?.ready ?? null,
      consumers,
      worker: owner?.name ?? null,
      consumer: activeConsumers?.get(queue) ?? null,
      state: owner?.report.state ?? (reports.length > 0 ? 'standby' : 'unknown'),
      held: owner?.report.held ?? null,
      gaps: owner?.report.gaps ?? null,
      totals: owner?.report.totals ?? null,
    };
  });
}

/** The open gaps, those that end first at the top, and their number; null if unknown. */
export function gapRows(shards: readonly Shard[], { workers }: OverviewInput): Overview['gaps'] {
  const rows = shards.flatMap(({ shard, worker }) => {
    const owner = reportsOf(workers, shard).find(({ name }) => name === worker);
    return owner === undefined ? [] : owner.report.open_gaps.map((gap) => ({ ...gap, shard, worker: owner.name }));
  });
  const total = shards.reduce<number | null>((sum, { gaps }) => (gaps === null ? sum : (sum ?? 0) + gaps), null);
  return { rows: rows.sort((a, b) => a.ends_in_ms - b.ends_in_ms).slice(0, maxGaps), total };
}

interface NamedReport {
  readonly name: string;
  readonly report: ShardStatus;
}

function reportsOf(workers: readonly AskedWorker[], shard: number): readonly NamedReport[] {
  return workers.flatMap(({ name, report }) =>
    (isReport(report) ? report.shards : []).filter((one) => one.shard === shard).map((one) => ({ name, report: one })),
  );
}

/** A worker may not know yet that it lost a shard: the later epoch counts. Without any epoch the only consumer is the owner. */
function ownerOf(reports: readonly NamedReport[], consumers: number | null): NamedReport | null {
  const owners = reports.filter(({ report }) => report.epoch !== null).sort((a, b) => b.report.epoch! - a.report.epoch!);
  return owners[0] ?? (consumers === 1 && reports.length === 1 ? reports[0]! : null);
}
