/** The defects that `npm run test:mutants` plants: each a small replacement of text in one file. */

export interface Mutant {
  readonly name: string;
  /** Below `src`. */
  readonly file: string;
  /** Everywhere in the file. */
  readonly find: string;
  readonly put: string;
}

export const mutants: readonly Mutant[] = [
  {
    name: 'a delivery is acknowledged when it arrives',
    file: 'worker/shard.ts',
    find: 'for (const { tag } of raw) session.acknowledger.arrived(tag);',
    put: 'for (const { tag } of raw) session.acknowledger.arrived(tag), channel.ack(tag, false);',
  },
  {
    name: 'multiple covers a held tag',
    file: 'worker/acknowledger.ts',
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
];
