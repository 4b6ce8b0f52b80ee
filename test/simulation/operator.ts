/**
 * An operator who replays dead letters as `src/dead-letters/replay.ts` does: announces it, publishes what follows the version in the
 * order of the sequences, and removes each letter once its copy is confirmed. What can never be applied is left where it is.
 */
import { messageFingerprint } from '../../src/events/identity.ts';
import type { Store } from '../../src/stores/store.ts';
import { patiently, sleep } from '../../src/time.ts';
import type { Copy, ModelBroker } from './model-broker.ts';
import type { ModelStore } from './model-store.ts';
import { Link, type Machine } from './virtual-time.ts';
import type { World } from './world.ts';

const leaseMs = 5_000;
const replayable: ReadonlySet<string> = new Set(['gap_timeout', 'buffer_overflow', 'entity_parked', 'out_of_order', 'handler_failed']);

export class Operator {
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #machine: Machine;
  readonly #store: Store;
  readonly #toBroker: Link;
  #isReplaying = false;

  constructor(world: World, broker: ModelBroker, store: ModelStore, name: string) {
    this.#world = world;
    this.#broker = broker;
    this.#machine = world.machine(name);
    this.#store = store.seenFrom(this.#machine);
    this.#toBroker = new Link(world.schedule, world.latencyMs);
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
    const { time } = this.#machine;
    for (;;) {
      await sleep(time, this.#world.pace.between(500, 3_000));
      if (!this.#world.isHealed && !this.#world.has('early replays')) continue;
      this.#isReplaying = true;
      await this.#replayAll();
      this.#isReplaying = false;
    }
  }

  async #replayAll(): Promise<void> {
    const byEntity = new Map<string, Copy[]>();
    for (const copy of this.#broker.deadLetters) {
      const { entityId } = copy.letter;
      byEntity.set(entityId, [...(byEntity.get(entityId) ?? []), copy]);
    }
    for (const [entityId, copies] of byEntity) await this.#replay(entityId, copies);
  }

  async #replay(entityId: string, copies: readonly Copy[]): Promise<void> {
    const entity = { entityType: 'thing', entityId };
    const queries = copies.map(({ message }) => ({ ...entity, fingerprint: messageFingerprint(message) }));
    const histories = await this.#patiently(() => this.#store.findDeadLetters(queries));
    const [loaded] = await this.#patiently(() => this.#store.load([entity]));
    if (loaded?.status !== 'ok') return;
    const { version, parked } = loaded.snapshot;
    const letters = copies
      .filter((_, index) => replayable.has(histories[index]?.record?.reason ?? ''))
      .sort((a, b) => a.letter.sequence - b.letter.sequence);
    let reached = version;
    const taken: Copy[] = [];
    for (const copy of letters) {
      if (copy.letter.sequence > reached + 1) break;
      reached = Math.max(reached, copy.letter.sequence);
      taken.push(copy);
    }
    if (taken.length === 0) return;
    const announce = (replayedTo?: number) =>
      this.#patiently(() => this.#store.operator.beginReplay([{ ...entity, parkedAt: parked?.at, replayedTo }], leaseMs));
    await announce();
    await Promise.all(taken.map((copy) => this.#publish(copy)));
    await announce(reached);
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
    return patiently(ask, { time: this.#machine.time });
  }
}
