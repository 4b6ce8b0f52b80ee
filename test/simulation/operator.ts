/**
 * Replays of dead letters as `src/dead-letters/replay.ts` does them: one at a time, announced at the store; what follows the version is
 * published in the order of the sequences, and each letter is removed once its copy is confirmed. What can never be applied is left
 * where it is. An operator runs them, and workers with `AUTO_REPLAY`.
 */
import { UnavailableError } from '../../src/errors.ts';
import type { EntityReplay } from '../../src/dead-letters/replay-plan.ts';
import { messageFingerprint } from '../../src/events/identity.ts';
import type { Store } from '../../src/stores/store.ts';
import { patiently, sleep } from '../../src/time.ts';
import type { Copy, ModelBroker } from './model-broker.ts';
import type { ModelStore } from './model-store.ts';
import { Link, type Machine } from './virtual-time.ts';
import type { World } from './world.ts';

const leaseMs = 5_000;
const storePatienceMs = 10_000;
/** Reasons of letters that lacked a predecessor: a worker replays them by itself. */
export const lackedPredecessor = ['gap_timeout', 'buffer_overflow', 'entity_parked', 'out_of_order'] as const;
const replayable = [...lackedPredecessor, 'handler_failed'] as const;
type Replayable = (typeof replayable)[number];
/** How long after the faults an operator leaves workers with AUTO_REPLAY to it. */
const leftToWorkersMs = 90_000;

export class Replays {
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #machine: Machine;
  readonly #store: Store;
  readonly #toBroker: Link;

  constructor(world: World, broker: ModelBroker, store: ModelStore, machine: Machine) {
    this.#world = world;
    this.#broker = broker;
    this.#machine = machine;
    this.#store = store.seenFrom(machine);
    this.#toBroker = new Link(world.schedule, world.latencyMs);
  }

  /** Of the entities of these letters. @throws UnavailableError while another replay runs, or when the store does not answer for long. */
  async run(isAsked: (copy: Copy) => boolean, reasons: readonly Replayable[] = replayable): Promise<readonly EntityReplay[]> {
    if (this.#broker.replayer?.state === 'running') throw new UnavailableError('another replay is running');
    this.#broker.replayer = this.#machine;
    try {
      const byEntity = new Map<string, Copy[]>();
      for (const copy of this.#broker.deadLetters) {
        const { entityId } = copy.letter;
        if (isAsked(copy)) byEntity.set(entityId, [...(byEntity.get(entityId) ?? []), copy]);
      }
      const replayed: EntityReplay[] = [];
      for (const [entityId, copies] of byEntity) replayed.push(await this.#replay(entityId, copies, reasons));
      return replayed;
    } finally {
      if (this.#broker.replayer === this.#machine) this.#broker.replayer = null;
    }
  }

  async #replay(entityId: string, copies: readonly Copy[], reasons: readonly Replayable[]): Promise<EntityReplay> {
    const entity = { entityType: 'thing', entityId };
    const queries = copies.map(({ message }) => ({ ...entity, fingerprint: messageFingerprint(message) }));
    const histories = await this.#patiently(() => this.#store.findDeadLetters(queries));
    const [loaded] = await this.#patiently(() => this.#store.load([entity]));
    if (loaded?.status !== 'ok') throw new UnavailableError('the entity cannot be read');
    const { version, parked } = loaded.snapshot;
    const letters = copies
      .flatMap((copy, index) => {
        const reason = replayable.find((one) => one === histories[index]?.record?.reason);
        return reason === undefined ? [] : [{ copy, reason }];
      })
      .sort((a, b) => a.copy.letter.sequence - b.copy.letter.sequence);
    let reached = version;
    const taken = letters.filter(({ copy: { letter }, reason }) => {
      const follows = letter.sequence <= reached + 1 && reasons.includes(reason);
      if (follows) reached = Math.max(reached, letter.sequence);
      return follows;
    });
    if (taken.length > 0) {
      const announce = (replayedTo?: number) =>
        this.#patiently(() => this.#store.operator.beginReplay([{ ...entity, parkedAt: parked?.at, replayedTo }], leaseMs));
      await announce();
      await Promise.all(taken.map(({ copy }) => this.#publish(copy)));
      await announce(reached);
    }
    const summaries = taken.map(({ copy: { letter, message }, reason }) => {
      return {
        ...entity,
        messageId: letter.id,
        fingerprint: messageFingerprint(message),
        sequence: letter.sequence,
        reason,
        copy: undefined,
      };
    });
    return { entity, version, parked, letters: summaries, fetched: [], blocked: null };
  }

  /** Resolves when the broker has confirmed the copy and the letter is on its way out. */
  #publish(copy: Copy): Promise<void> {
    const { schedule, latencyMs } = this.#world;
    return new Promise((resolve) => {
      this.#toBroker.send(() => {
        this.#broker.publish(copy);
        schedule.after(latencyMs(), () =>
          this.#machine.do(() => {
            const at = this.#broker.deadLetters.indexOf(copy);
            if (at >= 0) this.#broker.deadLetters.splice(at, 1);
            resolve();
          }),
        );
      });
    });
  }

  #patiently<R>(ask: () => Promise<R>): Promise<R> {
    return patiently(ask, { time: this.#machine.time, timeoutMs: storePatienceMs });
  }
}

export class Operator {
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #machine: Machine;
  readonly #replays: Replays;
  readonly #waitsForWorkers: boolean;
  #isReplaying = false;
  #hasJudged = false;

  constructor(world: World, broker: ModelBroker, store: ModelStore, name: string, waitsForWorkers: boolean) {
    this.#world = world;
    this.#waitsForWorkers = waitsForWorkers;
    this.#broker = broker;
    this.#machine = world.machine(name);
    this.#replays = new Replays(world, broker, store, this.#machine);
  }

  /** Nothing is left among the dead letters but what another event has taken the place of, or what is none. */
  get hasNothingToDo(): boolean {
    const { ledger } = this.#world;
    return !this.#isReplaying && this.#broker.deadLetters.every(({ letter }) => letter.kind === 'malformed' || ledger.isTaken(letter));
  }

  start(): void {
    this.#machine.do(() => void this.#run());
  }

  kill(): void {
    if (this.#isReplaying) this.#world.sometimes('a replay died halfway');
    this.#machine.kill();
  }

  async #run(): Promise<void> {
    for (;;) {
      await sleep(this.#machine.time, this.#world.pace.between(500, 3_000));
      const { isHealed, healedForMs } = this.#world;
      if (isHealed ? this.#waitsForWorkers && healedForMs < leftToWorkersMs : !this.#world.has('early replays')) continue;
      this.#isReplaying = true;
      // What could not be done now is done the next time.
      const replayed = await this.#replays.run(() => true).catch(() => []);
      if (isHealed && this.#waitsForWorkers && !this.#hasJudged) this.#judge(replayed);
      this.#isReplaying = false;
    }
  }

  /** Workers with AUTO_REPLAY were given time enough: nothing that was ready is left for the operator. */
  #judge(replayed: readonly EntityReplay[]): void {
    this.#hasJudged = true;
    for (const { entity, version, letters } of replayed) {
      const ready = letters.find(({ sequence, reason }) => sequence === version + 1 && reason !== 'handler_failed');
      if (ready !== undefined)
        this.#world.ledger.fail('what a worker should have replayed was left', `${entity.entityId}: ${version + 1}, ${ready.reason}`);
    }
  }
}
