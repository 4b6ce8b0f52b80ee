/**
 * Mends of the sixteen promises that were once found broken ("Keep every promise"), each taken back: what a gap waits for (A), stores
 * that went backwards (B), replays (D), memory and processors (G), by the numbers of that list. What of it is not in simulated code, and
 * which tests have it instead, is in test/README.md.
 */

import type { Planted } from './planted-defects.ts';

/** Time that passes for nobody, and what a replay holds. */
const gaps: readonly Planted[] = [
  {
    name: '11 A1: the clock of a gap runs while the store is away',
    with: ['store outages'],
    edits: [
      {
        file: 'ordering/gap-clock.ts',
        find: 'const runs = storeAnswers && (hasRoom || onlyGapsMakeRoom);',
        put: 'const runs = hasRoom || onlyGapsMakeRoom;',
      },
      { file: 'ordering/gap-clock.ts', find: 'this.#countedMs = this.#answeredMs;', put: '' },
    ],
  },
  {
    name: "11 A1: the time since the store's last answer counts when it proves unavailable",
    with: ['store outages'],
    file: 'ordering/gap-clock.ts',
    find: 'this.#countedMs = this.#answeredMs;',
    put: '',
  },
  {
    name: '11 A1: the clock of a gap runs without room',
    file: 'ordering/gap-clock.ts',
    find: 'const runs = storeAnswers && (hasRoom || onlyGapsMakeRoom);',
    put: 'const runs = storeAnswers;',
  },
  {
    name: '11 A1: a gap ends without a turn of the broker',
    file: 'ordering/gap-watch.ts',
    find: 'if (!brokerHadTurn) {',
    put: 'if (!brokerHadTurn && nowMs < 0) {',
  },
  {
    name: '11 A1: a turn during which a missing event could not come ends a gap',
    file: 'ordering/gap-clock.ts',
    find: 'if (!runs) this.#turnIsSpoilt = true;',
    put: '',
  },
  {
    name: '11 A1: the time counts that a process has slept',
    with: ['freezes'],
    file: 'ordering/sequencer.ts',
    find: 'Math.min(this.nextDeadlineMs() ?? nowMs, this.#nowMs + this.#limits.gapRereadMs)',
    put: 'nowMs',
  },
  {
    name: '11 A1: the broker is given no time to fill the room that it was given',
    edits: [
      { file: 'ordering/gap-clock.ts', find: 'this.#fillingMs = fillingMs;', put: '' },
      { file: 'ordering/gap-clock.ts', find: 'this.#graceMs = Math.min(longestGraceMs,', put: 'this.#graceMs = Math.min(0,' },
    ],
  },
  {
    name: '11 A1: what is stuck in work is waited for without end',
    with: ['stuck entity'],
    file: 'ordering/work.ts',
    find: 'inWork(lane) > 0 && this.#countedMs < this.#endMs(lane)',
    put: 'inWork(lane) > 0',
  },
  {
    name: '11 A1: what lies outside for want of memory is not thought to be missing',
    file: 'worker/shard.ts',
    find: 'const isFull = session.intake.outside > 0;',
    put: 'const isFull = false;',
  },
  {
    name: '11 A2: what is held for an entity that is being replayed times out like any other',
    file: 'ordering/gap-watch.ts',
    find: "state === 'replaying' ? longestReplayStallMs : gapTimeoutMs",
    put: 'gapTimeoutMs',
  },
  {
    name: '11 A2: a replay is over with its lease, although its last copy has not come',
    file: 'ordering/entity-rules.ts',
    find: 'nowMs < replayUntilMs || (replayedTo > versionOf(entity) && nowMs < replayUntilMs + maxCopyWaitMs)',
    put: 'nowMs < replayUntilMs',
  },
];

/** A store that went backwards. */
const losses: readonly Planted[] = [
  {
    name: '11 B4: a halt is on record nowhere',
    with: ['entity keys lost'],
    file: 'worker/store-watch.ts',
    find: 'await Promise.all([this.#untilDone(() => this.#haltInStore(halt)), this.#untilDone(() => this.#haltAtBroker(halt))]);',
    put: 'void halt;',
  },
  {
    name: '11 B4: a halt is on record in the store alone',
    with: ['tail lost'],
    file: 'worker/store-watch.ts',
    find: ', this.#untilDone(() => this.#haltAtBroker(halt))',
    put: '',
  },
  {
    name: '11 B4: a halt is on record at the broker alone',
    with: ['entity keys lost'],
    file: 'worker/store-watch.ts',
    find: 'this.#untilDone(() => this.#haltInStore(halt)), ',
    put: '',
  },
  {
    name: '11 B4: a shard that halts gives its deliveries back before that is on record',
    with: ['entity keys lost'],
    file: 'worker/shard.ts',
    find: 'this.#haltEnding = this.#options.onHalt(cause, error).then(() => channel.stop());',
    put: 'this.#haltEnding = channel.stop().then(() => this.#options.onHalt(cause, error));',
  },
  {
    name: '11 B4: an empty store or an older copy is taken at a start',
    with: ['tail lost'],
    file: 'stores/store.ts',
    find: 'const detail = await whyNotThisStore(store, state, known);',
    put: 'const detail = null as string | null;',
  },
  {
    name: '11 B4: an epoch that is not higher is used',
    with: ['epoch keys lost'],
    file: 'worker/store-watch.ts',
    find: ': result.epoch > expected',
    put: ': result.epoch > 0',
  },
  {
    name: '11 B4: that the store is another one, or counts from before, is not noticed between two sessions',
    with: ['store emptied'],
    edits: [
      { file: 'worker/store-watch.ts', find: 'if (identity !== this.#identity) this.#noticed', put: 'if (epoch < -1) this.#noticed' },
      { file: 'worker/store-watch.ts', find: 'else if (epoch < expected) this.#noticed', put: 'else if (epoch < -1) this.#noticed' },
    ],
  },
  {
    name: '11 B4: a session does not look for halts, neither at the broker nor in the store',
    with: ['entity keys lost'],
    edits: [
      {
        file: 'worker/store-watch.ts',
        find: 'if (halt === undefined || this.#stopping.signal.aborted) return result;',
        put: 'if (halt?.shard !== -1) return result;',
      },
      {
        file: 'stores/memory/memory-store.ts',
        find: "if (halt !== undefined) return { status: 'halted', halt };",
        put: "if (halt?.shard === -1) return { status: 'halted', halt };",
      },
    ],
  },
  {
    name: '11 B4: a session looks for halts in the store alone',
    with: ['tail lost'],
    file: 'worker/store-watch.ts',
    find: 'if (halt === undefined || this.#stopping.signal.aborted) return result;',
    put: 'if (halt?.shard !== -1) return result;',
  },
  {
    name: '11 B4: the epochs at the broker are those of the first start',
    with: ['epoch keys lost'],
    file: 'worker/store-watch.ts',
    find: 'this.#noting ??= this.#note()',
    put: 'this.#noting ??= Promise.resolve(true)',
  },
  {
    name: '11 B4: a version that is lower than what was committed is taken over',
    with: ['entity keys lost'],
    file: 'ordering/lane-runner.ts',
    find: 'if (version < lane.known.version && !wasSet) {',
    put: 'if (version < -1 && !wasSet) {',
  },
  {
    name: '11 B4: with the end of a halt epochs are given out again',
    with: ['epoch keys lost'],
    file: 'stores/memory/memory-store.ts',
    find: 'this.#epoch = Math.max(this.#epoch, epoch);',
    put: 'void epoch;',
  },
  {
    name: '11 B4: a worker does not take the store that an operator has accepted for its own',
    with: ['store emptied'],
    file: 'worker/store-watch.ts',
    find: 'if (isAll(this.#halts) && !isAll(halts)) {',
    put: 'if (this.#halts.length < 0) {',
  },
  {
    name: '11 B4: a shard does not go on when its halt has ended',
    with: ['entity keys lost'],
    file: 'worker/store-watch.ts',
    find: 'if (halt === undefined) void shard.resume();',
    put: 'if (halt === undefined) continue;',
  },
  {
    name: '11 B4: the end of a halt is not put on record at the broker',
    with: ['entity keys lost'],
    file: 'cli/recover.ts',
    find: 'identity, epoch, halts: [] }',
    put: 'identity, epoch, halts: now.halts }',
  },
  {
    name: '11 B5: a token has no random part, and alone makes a duplicate, where an epoch is given out twice',
    with: ['epoch keys lost'],
    edits: [
      { file: 'worker/shard.ts', find: 'session: Math.floor(time.random() * 2 ** 52).toString(36),', put: "session: 's'," },
      {
        file: 'ordering/entity-rules.ts',
        find: 'entity.token === commit.token && versionOf(entity) === commit.newVersion && entity.holes === commit.newHoles',
        put: 'entity.token === commit.token',
      },
      { file: 'worker/store-watch.ts', find: 'known !== null && known.identity === identity ? known.epoch : 0', put: '0' },
    ],
  },
  {
    name: '11 B5: of two owners with one epoch either parks',
    with: ['epoch keys lost'],
    edits: [
      { file: 'ordering/entity-rules.ts', find: ' || (owner.epoch === epoch && owner.session !== session)', put: '' },
      { file: 'worker/store-watch.ts', find: 'known !== null && known.identity === identity ? known.epoch : 0', put: '0' },
    ],
  },
  {
    name: '11 B6: recover leaves an entity where it is',
    with: ['entity keys lost'],
    file: 'worker/recovery.ts',
    find: 'if (before.version >= behind.target)',
    put: 'if (before.version >= 0)',
  },
  {
    name: '11 B6: recover goes on beside what others have committed meanwhile',
    with: ['entity keys lost'],
    file: 'worker/recovery.ts',
    find: "if (result.status === 'stale') return { moved: true };",
    put: '',
  },
  {
    name: '11 B6: recover sets the version and applies nothing',
    with: ['entity keys lost'],
    file: 'worker/recovery.ts',
    find: "if (remedy.kind === 'events')",
    put: "if (remedy.kind !== 'events')",
  },
];

/** Memory, and processors that fail. */
const limits: readonly Planted[] = [
  {
    name: '11 G: deliveries take as much memory as they like',
    file: 'worker/intake.ts',
    find: 'if (this.#bytes + bytes <= memory.maxBytes - memory.usedBytes) return true;',
    put: 'if (memory.maxBytes > 0) return true;',
  },
  {
    name: '11 G: what lies outside for want of memory stays there',
    file: 'worker/intake.ts',
    find: 'this.#options.giveBack(next.tag);',
    put: 'void next.tag;',
  },
  {
    name: '11 G: what waits for a gap fills the memory, and nothing more is let in',
    file: 'worker/intake.ts',
    find: 'return this.#inside.size + this.#expected.length <= waiting();',
    put: 'return waiting() < 0;',
  },
  {
    name: '11 G: what a processor has changed in place stays when it fails',
    with: ['handler failures'],
    file: 'worker/processing.ts',
    find: 'if (failure !== null && this.#processors.aggregate !== null) return this.#foldAgain(failure);',
    put: '',
  },
];

export const fixesTakenBack: readonly Planted[] = [...gaps, ...losses, ...limits];
