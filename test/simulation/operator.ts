/**
 * An operator with the shipped commands: replays of the dead letters, `shards resume` and `recover`. What can never be applied is left
 * where it is. Workers with `AUTO_REPLAY` replay as well, and take turns with the operator by the lock.
 */
import { createProcessors } from '../../src/aggregates/processors.ts';
import { resume } from '../../src/cli/recover.ts';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { DeadLetters, letterSettings } from '../../src/dead-letters/dead-letters.ts';
import { KeptBroker } from '../../src/dead-letters/letter-broker.ts';
import type { ReplayOutcome, ReplayReport } from '../../src/dead-letters/replay.ts';
import { countLetters, type ReplayPlan } from '../../src/dead-letters/replay-plan.ts';
import { UnavailableError } from '../../src/errors.ts';
import { decodeMessage } from '../../src/events/decode.ts';
import { type Event, defaultEventLimits } from '../../src/events/event.ts';
import type { SequencerLimits } from '../../src/ordering/facts.ts';
import type { Store } from '../../src/stores/store.ts';
import { lookForHalts } from '../../src/stores/store.ts';
import { sleep } from '../../src/time.ts';
import { type Behind, recoverEntity } from '../../src/worker/recovery.ts';
import { ModelConnection } from './model-amqp.ts';
import { messageOf, type ModelBroker } from './model-broker.ts';
import type { ModelStore } from './model-store.ts';
import type { Machine } from './virtual-time.ts';
import { thing, type World } from './world.ts';

const leaseMs = 5_000;
const outcomeTimeoutMs = 5_000;
/** Reasons of letters that lacked a predecessor: a worker replays them by itself. */
const lackedPredecessor: readonly string[] = ['gap_timeout', 'buffer_overflow', 'entity_parked', 'out_of_order'];
/** How long after the faults an operator leaves workers with AUTO_REPLAY to it; they search less often where that takes them long. */
const leftToWorkersMs = 150_000;

/** What operator and workers agree on. */
export interface LetterHandling {
  readonly config: Config;
  /** Letters per page of a reading. */
  readonly pageSize: number;
}

const config = loadConfig({ STREAM: 's', ENTITY_TYPE: 'thing' });

export function letterHandling({ strategy, unsequenced }: SequencerLimits, pageSize: number): LetterHandling {
  return { config: { ...config, ordering: { ...config.ordering, strategy, unsequenced } }, pageSize };
}

/** How long after the faults an operator looks which entities are behind what the event store has. */
const recoversAfterMs = 10_000;

export interface OperatorSetting extends LetterHandling {
  /** Workers replay by themselves, and are given the time for it. */
  readonly waitsForWorkers: boolean;
  /** Letters a second; undefined: no limit. */
  readonly ratePerSecond: number | undefined;
  readonly replays: () => void;
}

export class Operator {
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #machine: Machine;
  readonly #letters: DeadLetters;
  readonly #model: ModelStore;
  readonly #store: Store;
  readonly #record: ReturnType<ModelStore['recordSeenFrom']>;
  readonly #setting: OperatorSetting;
  #isBusy = false;
  #isReplaying = false;
  #hasJudged = false;

  constructor(world: World, broker: ModelBroker, store: ModelStore, name: string, setting: OperatorSetting) {
    this.#world = world;
    this.#setting = setting;
    this.#broker = broker;
    this.#machine = world.machine(name);
    this.#model = store;
    this.#store = store.seenFrom(this.#machine);
    this.#record = store.recordSeenFrom(this.#machine);
    const { time } = this.#machine;
    const say = (fields: unknown, message: string) => world.note(name, message, fields);
    const log = { debug: () => {}, info: say, warn: say, error: say };
    const connect = () => new ModelConnection(broker, this.#machine);
    const names = { reading: 'dead-letters', publishing: 'replay' };
    this.#letters = new DeadLetters({
      ...letterSettings(setting.config),
      store: this.#store,
      broker: new KeptBroker({ ...setting.config.broker, names, log, time, connect }),
      time,
      pageSize: setting.pageSize,
    });
  }

  /** Nothing is halted or behind, nor left among the dead letters but what another event has taken the place of, or what is no event. */
  get hasNothingToDo(): boolean {
    const { ledger } = this.#world;
    if (this.#isBusy || this.#model.isHalted || ledger.behind().size > 0) return false;
    return this.#broker.deadLetters.all.every(({ letter }) => letter.kind === 'malformed' || ledger.isTaken(letter));
  }

  start(): void {
    this.#machine.do(() => void this.#run());
  }

  kill(): void {
    if (this.#isReplaying) this.#world.sometimes('a replay died halfway');
    this.#machine.kill();
    this.#broker.sever(this.#machine);
  }

  cutOff(): void {
    if (this.#isReplaying) this.#world.sometimes('a replay was cut off from the broker');
    this.#broker.sever(this.#machine);
  }

  async #run(): Promise<void> {
    for (;;) {
      await sleep(this.#machine.time, this.#world.pace.between(1_000, 9_000));
      if (this.#world.ledger.lossAtMs !== null) await this.#recovers().catch(unavailable);
      const { isHealed, healedForMs } = this.#world;
      const { waitsForWorkers } = this.#setting;
      if (isHealed ? waitsForWorkers && healedForMs < leftToWorkersMs : !this.#world.has('early replays')) continue;
      this.#isBusy = true;
      // What could not be done now is done the next time.
      await this.#replays(isHealed && waitsForWorkers).catch(unavailable);
      this.#isReplaying = false;
      this.#isBusy = false;
    }
  }

  /** `hasWaited`: workers have had the time to replay. */
  async #replays(hasWaited: boolean): Promise<void> {
    const { lossAtMs } = this.#world.ledger;
    const plan = await this.#letters.plan();
    // Without the parking that the store has lost nobody knows that letters are ready.
    if (hasWaited && lossAtMs === null && !this.#hasJudged) this.#judge(plan);
    if (countLetters(plan).replayable === 0) return;
    this.#isReplaying = true;
    const { ratePerSecond, pageSize, replays } = this.#setting;
    replays();
    const report = await this.#letters.replay(plan, { who: 'operator', leaseMs, ratePerSecond, pageSize });
    this.#isReplaying = false;
    if (report.replayed > 0) this.#world.sometimes('an operator replayed');
    const outcome = await this.#letters.outcome(plan, report, { timeoutMs: outcomeTimeoutMs });
    if (lossAtMs === this.#world.ledger.lossAtMs) this.#judgeOutcome(outcome, report);
  }

  /** As `inorder shards resume` and `inorder recover` do; what cannot be done now is done the next time. */
  async #recovers(): Promise<void> {
    const { time } = this.#machine;
    const { ledger, pace, isHealed, healedForMs } = this.#world;
    const { halts } = await lookForHalts(this.#store, await this.#record.read(), time);
    if (halts.length > 0) {
      await sleep(time, pace.between(1_000, 6_000));
      await resume(this.#store, this.#record, halts, 'it is as it is');
      this.#world.sometimes('an operator ended a halt');
    }
    if (!isHealed || healedForMs < recoversAfterMs) return;
    for (const [entityId, target] of ledger.behind()) {
      const behind: Behind = { entityType: 'thing', entityId, version: ledger.account.versionOf(entityId), target, problem: null };
      const publish = () => Promise.reject(new UnavailableError('what was handled is not published again'));
      const recovery = {
        store: this.#store,
        processors: createProcessors([thing]),
        maxStateBytes: 100_000,
        eventLog: false,
        publish,
        time,
      };
      const read = (from: number, to: number) => this.#events(entityId, from, to);
      const { status } = await recoverEntity(behind, { kind: 'events', mayBeUnprocessed: false, read }, recovery);
      if (status === 'recovered') this.#world.sometimes('an operator brought back what was lost');
    }
  }

  /** What the event store has. */
  async *#events(entityId: string, from: number, to: number): AsyncGenerator<Event> {
    for (const letter of this.#world.ledger.letters.values()) {
      if (letter.kind !== 'event' || letter.entityId !== entityId || letter.sequence < from || letter.sequence > to) continue;
      const limits = { limits: defaultEventLimits, defaultEntityType: 'thing', unsequenced: 'reject' } as const;
      const decoded = decodeMessage(messageOf(letter), limits);
      if (decoded.ok) yield decoded.event;
    }
  }

  /** Workers with AUTO_REPLAY were given time enough: nothing that was ready is left for the operator. */
  #judge(plan: ReplayPlan): void {
    this.#hasJudged = true;
    for (const { entity, version, letters } of plan.entities) {
      const ready = letters.find(({ sequence, reason }) => sequence === version + 1 && lackedPredecessor.includes(reason));
      if (ready !== undefined)
        this.#world.ledger.fail('what a worker should have replayed was left', `${entity.entityId}: ${version + 1}, ${ready.reason}`);
    }
  }

  #judgeOutcome({ entities }: ReplayOutcome, { sent }: ReplayReport): void {
    const { ledger } = this.#world;
    for (const { replay, status } of entities) {
      if (status === 'parked-again') this.#world.sometimes('a replayed letter failed again');
      if (status !== 'recovered' && status !== 'passed') continue;
      const { entityId } = replay.entity;
      const left = replay.letters.find((letter) => sent.has(letter) && (letter.sequence ?? 0) > ledger.account.versionOf(entityId));
      if (left !== undefined) ledger.fail('a replay was said to be done that is not', `${entityId}: ${left.sequence}`);
    }
  }
}

/** @throws what is anything else. */
function unavailable(error: unknown): void {
  if (!(error instanceof UnavailableError)) throw error;
}
