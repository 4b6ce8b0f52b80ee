/** The defects that `npm run test:mutants` plants, and what each replaces. */
import { fixesTakenBack } from './fixes-taken-back.ts';
import { inClients } from './planted-in-clients.ts';
import type { Fault } from './world.ts';

interface Edit {
  /** Below `src`. */
  readonly file: string;
  /** Everywhere in the file. */
  readonly find: string;
  readonly put: string;
}

/** A planted defect: a small replacement of text in one file, or several, where one place protects against what another lets through. */
export interface Mutant {
  readonly name: string;
  readonly edits: readonly Edit[];
  /** It can only show in seeds that have these faults: the others are passed over. */
  readonly with?: readonly Fault[];
}

/** As it is written below: most have one edit. */
export type Planted = Omit<Mutant, 'edits'> & (Edit | Pick<Mutant, 'edits'>);

const inWorkers: readonly Planted[] = [
  {
    name: 'a delivery is acknowledged when it arrives',
    file: 'worker/shard.ts',
    find: 'for (const { tag } of raw) session.acknowledger.arrived(tag);',
    put: 'for (const { tag } of raw) session.acknowledger.arrived(tag), channel.ack(tag, false);',
  },
  {
    name: 'multiple covers a held tag',
    file: 'rabbitmq/shard-channel.ts',
    find: 'for (const tag of this.#unsettled) return tag - 1;',
    put: '',
  },
  {
    name: "a dead channel's tags are used on the next one",
    file: 'worker/shard.ts',
    find: "this.#sequencer.handle(this.#options.time.nowMs(), { kind: 'channelLost' });",
    put: '',
  },
  {
    name: 'the wall clock says when a gap ends',
    file: 'worker/shard.ts',
    find: 'this.#options.time.nowMs()',
    put: 'this.#options.time.wallMs()',
  },
  {
    name: 'all commits of a session have one token',
    file: 'worker/store-batch.ts',
    find: '`${epoch}:${session}:${effect.op}`',
    put: '`${epoch}:${session}`',
  },
  {
    name: 'a commit that was sent again has a new token',
    file: 'worker/store-batch.ts',
    find: 'const prepared = this.#unanswered.get(effect.op);',
    put: 'const prepared = undefined as Prepared | undefined;',
  },
  {
    name: 'a rejection does not wait for its record',
    file: 'worker/store-batch.ts',
    find: 'await store.recordDeadLetters(',
    put: 'void store.recordDeadLetters(',
  },
  {
    name: 'a request without an answer counts as done',
    file: 'worker/store-batch.ts',
    find: 'batch.unknown.push(...operations.map(({ op }) => op));\n      return [];',
    put: "return operations.map(() => ({ status: 'duplicate', parked: null })) as R[];",
  },
  {
    name: 'the version does not fence a commit',
    file: 'ordering/entity-rules.ts',
    find: 'versionOf(entity) !== commit.expectedVersion ||',
    put: '',
  },
  {
    name: 'a commit is a duplicate without its token',
    file: 'ordering/entity-rules.ts',
    find: 'entity.token === commit.token &&',
    put: '',
  },
  {
    name: 'a claim is not fenced',
    file: 'ordering/entity-rules.ts',
    find: "if ((entity.owners.get(shard)?.epoch ?? 0) > epoch) return { status: 'fenced' };",
    put: '',
  },
  {
    name: 'a park is not fenced',
    file: 'ordering/entity-rules.ts',
    find: 'if (owner !== undefined && (owner.epoch > epoch',
    put: 'if (false && owner !== undefined && (owner.epoch > epoch',
  },
  {
    name: 'a park does not look at the version',
    file: 'ordering/entity-rules.ts',
    find: "if (versionOf(entity) !== expectedVersion) return { status: 'stale', snapshot: snapshotOf(entity, nowMs) };",
    put: '',
  },
  {
    name: 'a parking never ends',
    file: 'ordering/entity-rules.ts',
    find: 'entity.awaited <= commit.newVersion',
    put: 'false',
  },
  {
    name: 'what a stale commit came back with is not taken over',
    file: 'ordering/lane-runner.ts',
    find: "lane.learn({ kind: 'read', version, holes, parked, atMs: this.#gaps.clock.countedMs });",
    put: "if (operation.effect.kind !== 'commit') lane.learn({ kind: 'read', version, holes, parked, atMs: this.#gaps.clock.countedMs });",
  },
  {
    name: 'an old event counts as a duplicate whatever its content',
    file: 'ordering/lane-runner.ts',
    find: 'if (result.payloadHash === event.payloadHash) return null;',
    put: "if (result.status === 'known') return null;",
  },
  {
    name: 'events are rejected without parking their entity',
    file: 'ordering/lane-runner.ts',
    find: 'if (sequence === null || sequence <= lane.known.version) this.#settlements.reject',
    put: 'if (sequence !== null) this.#settlements.reject',
  },
  {
    name: 'the commit of a run settles all of it, whatever was done',
    file: 'ordering/lane-runner.ts',
    find: 'const settled = done === slots.length ? slots : slots.slice(0, done);',
    put: 'const settled = slots;',
  },
  {
    name: 'a gap never ends',
    file: 'ordering/gap-watch.ts',
    find: 'if (!full && this.clock.countedMs < deadlineMs) {',
    put: 'if (!full) {',
  },
  {
    name: 'of two copies that are held one is forgotten',
    file: 'ordering/sequence-buffer.ts',
    find: 'held.copies.push(delivery);',
    put: '',
  },
  {
    name: 'what is held is applied over a gap',
    file: 'ordering/plan.ts',
    find: 'const lowest = skipsAhead || decides ? held.lowest() : null;',
    put: 'const lowest = held.lowest();',
  },
  // What the strategies promise.
  {
    name: 'an early event is applied that should be skipped',
    file: 'ordering/plan.ts',
    find: "run.place('leap', delivery, sequence, 'skip');",
    put: "run.place('leap', delivery, sequence, 'apply');",
  },
  {
    name: 'a hole that was filled stays one',
    file: 'ordering/plan.ts',
    find: 'this.holes = this.holes.close(sequence);',
    put: 'void sequence;',
  },
  {
    name: 'what falls into a hole is taken for a duplicate',
    file: 'ordering/plan.ts',
    find: 'if (!holes.has(sequence)) {',
    put: 'if (sequence > 0 || !holes.has(sequence)) {',
  },
  {
    name: 'a late event is rejected whatever the strategy',
    file: 'ordering/plan.ts',
    find: "return this.#placeAs('hole', delivery, sequence);",
    put: "return this.#sink.reject(delivery, 'late', ''), 'decided';",
  },
  {
    name: 'the id of an event without a sequence is not remembered',
    file: 'stores/memory/memory-store.ts',
    find: 'if (recordId && !consumed) putLast(entity.byId',
    put: 'if (recordId && consumed) putLast(entity.byId',
  },
  {
    name: 'what is decided again comes behind what arrived since',
    file: 'ordering/lane.ts',
    find: 'this.arrivals = deliveries.concat(this.arrivals);',
    put: 'this.arrivals = this.arrivals.concat(deliveries);',
  },
  {
    name: 'the memory of settled deliveries is not freed',
    file: 'worker/intake.ts',
    find: 'this.#inside.delete(tag);\n    this.#use(-bytes);',
    put: '',
  },
  {
    name: 'a duplicate is acknowledged and not counted',
    file: 'worker/delivery-report.ts',
    find: 'shardMetrics.ended(outcome, deliveries.length);',
    put: "if (outcome !== 'duplicate') shardMetrics.ended(outcome, deliveries.length);",
  },
  {
    name: 'a rejection is counted when it is decided and when it is sent',
    file: 'worker/delivery-report.ts',
    find: 'shardMetrics.deadLettered(reason, same.length);',
    put: 'shardMetrics.deadLettered(reason, same.length), shardMetrics.deadLettered(reason, same.length);',
  },
  {
    name: 'a deadline is never looked at again',
    file: 'worker/shard.ts',
    find: 'const dueMs = this.#session === null || this.#halted ? null : this.#sequencer.nextDeadlineMs();',
    put: 'const dueMs = null as number | null;',
  },
  {
    name: 'operations that got no answer are not asked again',
    file: 'ordering/sequencer.ts',
    find: 'this.#operations.probe(this.#nowMs, this.#effects);',
    put: '',
  },
  {
    name: 'an entity whose keys were unusable is not tried again',
    file: 'ordering/sequencer.ts',
    find: 'this.#deadlines.set(operation.lane, this.#nowMs + fact.retryInMs);',
    put: '',
  },
  {
    name: 'a worker does not look for dead letters that are ready',
    file: 'worker/store-batch.ts',
    find: 'batch.stillParked.push({ entity, version: after.version, parked: result.parked });',
    put: 'void entity;',
  },
  {
    name: 'the version is taken to be one further than what was committed',
    file: 'ordering/lane-runner.ts',
    find: "lane.learn({ kind: 'committed', version: last.versionAfter, holes: last.holesAfter, parked, atMs });",
    put: "lane.learn({ kind: 'committed', version: last.versionAfter + 1, holes: last.holesAfter, parked, atMs });",
  },
  {
    name: 'nobody looks again for the letters that a dead worker has left',
    file: 'worker/auto-replay.ts',
    find: 'if ((await lettersLeft()) > 0 &&',
    put: 'if ((await lettersLeft()) < 0 &&',
  },
  // What is fetched for a gap.
  {
    name: 'an event that was fetched is acknowledged at the broker',
    file: 'worker/shard.ts',
    find: 'if (!isFetched(tag)) {',
    put: 'if (tag !== 0) {',
  },
  {
    name: 'a fetched event that is refused is rejected at the broker',
    file: 'worker/shard.ts',
    find: 'const letters = rejections.filter(({ tag }) => !isFetched(tag));',
    put: 'const letters = rejections;',
  },
  // What "a processor that ends its process" promises.
  {
    name: 'what is tried is not on record before its processor runs',
    file: 'worker/trials.ts',
    find: 'if (!life.aborted) await this.#write();',
    put: '',
  },
  {
    name: 'an event is convicted that was on record with others',
    file: 'worker/trials.ts',
    find: 'const wasAlone = event === alone && together.length === 0;',
    put: 'const wasAlone = true;',
  },
  {
    name: 'an owner that was fenced goes on',
    file: 'ordering/sequencer.ts',
    find: "if (fact.kind === 'fenced') return this.#end('overtaken', 'a later owner of this shard has claimed an entity that is held here');",
    put: "if (fact.kind === 'fenced') return this.#advance(operation.lane!);",
  },
  {
    name: 'replay: what the broker has dead-lettered by itself stays where it is',
    with: ['delivery limits'],
    file: 'dead-letters/replay-plan.ts',
    find: 'if (refused !== null) return',
    put: "if (refused !== null || reason === 'delivery_limit') return",
  },
  // Each of these alone is made up for by the other.
  {
    name: 'a parked entity holds what comes early',
    edits: [
      { file: 'ordering/plan.ts', find: "if (state === 'parked') {", put: "if (state === 'parked' && version < 0) {" },
      { file: 'ordering/plan.ts', find: "if (known.state === 'parked') {", put: "if (known.state === 'parked' && known.version < 0) {" },
    ],
  },
];

export const mutants: readonly Mutant[] = [...inWorkers, ...inClients, ...fixesTakenBack].map((planted) => {
  if ('edits' in planted) return planted;
  const { file, find, put, ...named } = planted;
  return { ...named, edits: [{ file, find, put }] };
});
