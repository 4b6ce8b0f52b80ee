/**
 * One simulated world from its scenario to rest: a producer, several workers for each shard, an operator who replays, and whatever goes
 * wrong; then the faults end, and everything has to come to rest within a bound.
 */
import { envelopeText } from '../../src/events/new-event.ts';
import { defaultSequencerLimits } from '../../src/ordering/limits.ts';
import { rawMessage } from '../support/raw-message.ts';
import type { Failure, Letter } from './ledger.ts';
import { type Copy, ModelBroker } from './model-broker.ts';
import { ModelStore } from './model-store.ts';
import { ModelWorker, type WorkerSetting } from './model-worker.ts';
import { Operator } from './operator.ts';
import { Chance } from './virtual-time.ts';
import { calmWithout, type Fault, faults, type Scenario, World } from './world.ts';

export interface Outcome {
  readonly scenario: Scenario;
  /** Null: every promise was kept. */
  readonly failure: Failure | null;
  readonly steps: number;
  readonly seen: ReadonlySet<string>;
  readonly trace: readonly string[];
}

const faultsEndMs = 30_000;
/** From the end of the faults to rest: the longest resend, gaps, back-offs and replays, one after the other. */
const restWithinMs = 300_000;
const maxSteps = 200_000;
const most = { entities: 8, events: 20 };

/** A seed says which faults are on: each is with two seeds of three, and one seed in ten is calm. */
export function scenarioOf(seed: number): Scenario {
  const chance = new Chance(seed, 'scenario');
  const isCalm = chance.hits(0.1);
  const without = faults.filter((fault) => chance.hits(1 / 3) || (isCalm && calmWithout.includes(fault)));
  return { seed, without, maxEntities: most.entities, maxEvents: most.events };
}

export async function simulate(scenario: Scenario, isTraced = false): Promise<Outcome> {
  const world = new World(scenario, isTraced);
  const simulation = new Simulation(world);
  const { ledger, schedule } = world;
  const crashed = (error: unknown) => ledger.fail('an error that nobody handles', String((error as Error).stack ?? error));
  process.on('unhandledRejection', crashed);
  try {
    simulation.begin();
    await schedule.run(() => ledger.failure !== null || simulation.isAtRest || schedule.steps > maxSteps);
  } catch (error) {
    crashed(error);
  } finally {
    process.off('unhandledRejection', crashed);
  }
  if (ledger.failure === null) {
    if (simulation.isAtRest) ledger.rested(simulation.deadLetters, await simulation.parkedEntities(), world.isCalm);
    else ledger.fail('it does not come to rest', `${ledger.unsettled} messages are not settled`);
  }
  return { scenario, failure: ledger.failure, steps: schedule.steps, seen: world.seen, trace: world.trace ?? [] };
}

/**
 * The least scenario with the same symptom: faults are switched off one by one, then entities and events left out. `run` makes an
 * outcome of a scenario.
 */
export async function shrink(failed: Outcome, run: (scenario: Scenario) => Promise<Outcome> = simulate): Promise<Outcome> {
  let least = failed;
  const failsToo = async (less: Partial<Scenario>) => {
    const outcome = await run({ ...least.scenario, ...less });
    if (outcome.failure?.symptom !== failed.failure?.symptom) return false;
    least = outcome;
    return true;
  };
  for (const fault of faults) {
    const { without } = least.scenario;
    if (!without.includes(fault)) await failsToo({ without: [...without, fault] });
  }
  for (const limit of ['maxEntities', 'maxEvents'] as const)
    while (least.scenario[limit] > 1 && (await failsToo({ [limit]: least.scenario[limit] - 1 })));
  return least;
}

class Simulation {
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #store: ModelStore;
  readonly #setting: WorkerSetting;
  readonly #workers: ModelWorker[] = [];
  #operator: Operator;
  #named = 0;
  /** Copies that are under way to the broker. */
  #sending = 0;
  isAtRest = false;

  constructor(world: World) {
    this.#world = world;
    const { work } = world;
    const shards = work.between(1, 2);
    this.#broker = new ModelBroker(world, shards);
    this.#store = new ModelStore(world);
    const prefetch = work.between(5, 40);
    const gapTimeoutMs = work.between(1_000, 4_000);
    this.#setting = {
      shards,
      handlerMs: work.hits(0.4) ? work.pick([20, 20, 800]) : null,
      memoryBytes: work.hits(0.2) ? work.between(20_000, 60_000) : 10_000_000,
      autoReplay: work.hits(0.4),
      limits: {
        ...defaultSequencerLimits,
        prefetch,
        gapTimeoutMs,
        gapRereadMs: Math.ceil(gapTimeoutMs / 4),
        strategy: work.hits(0.2) ? 'fail' : 'buffer',
        maxHeld: Math.max(2, Math.floor(prefetch * 0.8)),
        maxHeldPerEntity: work.between(2, 20),
        maxFold: work.pick([1, 4, 256]),
        maxRememberedBytes: work.pick([500, 1_000_000]),
      },
    };
    this.#operator = this.#newOperator();
  }

  get deadLetters(): readonly Letter[] {
    return this.#broker.deadLetters.map(({ letter }) => letter);
  }

  async parkedEntities(): Promise<readonly string[]> {
    const parked: string[] = [];
    for await (const entity of this.#store.inside.listEntities({})) if (entity.parked !== null) parked.push(entity.entityId);
    return parked;
  }

  begin(): void {
    const { work, schedule } = this.#world;
    for (let workers = work.between(2, 3); workers > 0; workers--) this.#startWorker();
    const paces = new Map<string, readonly [startMs: number, stepMs: number]>();
    for (const letter of this.#letters()) {
      const [startMs, stepMs] = paces.get(letter.entityId) ?? [work.between(0, 10_000), work.between(0, 800)];
      paces.set(letter.entityId, [startMs, stepMs]);
      this.#send(letter, startMs + letter.sequence * stepMs);
    }
    this.#operator.start();
    this.#disturb();
    schedule.after(faultsEndMs, () => this.#heal());
  }

  /** All that is to be published: the events of every entity, and some that take the place of others. */
  #letters(): readonly Letter[] {
    const { work, scenario, ledger } = this.#world;
    const letters: Letter[] = [];
    const entities = work.between(4, most.entities);
    for (let entity = 0; entity < entities; entity++) {
      const [entityId, shard, events] = [`e${entity}`, entity % this.#setting.shards, work.between(5, most.events)];
      for (let sequence = 1; sequence <= events; sequence++) {
        const kind = work.hits(0.03) ? (work.hits(0.5) ? 'malformed' : 'forged') : 'event';
        const value = work.between(1, 1_000_000);
        if (entity >= scenario.maxEntities || sequence > scenario.maxEvents) continue;
        letters.push({ id: `${entityId}-${sequence}`, kind: 'event', entityId, sequence, value, shard });
        if (kind !== 'event' && this.#world.has('forgeries'))
          letters.push({ id: `${entityId}-${sequence}-${kind}`, kind, entityId, sequence, value: value + 1, shard });
      }
    }
    for (const letter of letters) ledger.letters.set(letter.id, letter);
    return letters;
  }

  /** Some copies come late, some twice, and some only when the producer sends them again. */
  #send(letter: Letter, afterMs: number): void {
    const copy = copyOf(letter);
    const { schedule, chance } = this.#world;
    const arrives = (delayMs: number) => {
      this.#sending++;
      schedule.after(delayMs, () => {
        this.#sending--;
        this.#broker.publish(copy);
      });
    };
    const lateMs = this.#world.strikes('reordering', 0.2) ? chance.between(0, 1_500) : 0;
    const resentMs = this.#world.strikes('lost publishes', 0.05) ? chance.between(500, 15_000) : 0;
    arrives(afterMs + lateMs + resentMs + this.#world.latencyMs());
    if (this.#world.strikes('duplicates', 0.1)) arrives(afterMs + chance.between(0, 10_000));
  }

  #startWorker(): void {
    const worker = new ModelWorker(this.#world, this.#broker, this.#store, `w${++this.#named}`, this.#setting);
    this.#workers.push(worker);
    worker.machine.do(() => void worker.start());
  }

  #newOperator(): Operator {
    return new Operator(this.#world, this.#broker, this.#store, `o${++this.#named}`, this.#setting.autoReplay);
  }

  /** Something goes wrong every few seconds. */
  #disturb(): void {
    const { schedule, chance, isHealed } = this.#world;
    if (isHealed) return;
    const happens: Record<string, () => void> = {
      'channels lost': () => chance.pick(this.#workers).severed(chance.hits(0.3) ? undefined : chance.between(0, 9)),
      kills: () => this.#replace(chance.pick(this.#workers), (worker) => worker.kill()),
      drains: () =>
        this.#replace(chance.pick(this.#workers), (worker) => {
          this.#world.sometimes('a worker drained');
          worker.machine.do(() => void worker.stop());
        }),
      freezes: () => this.#freeze(chance.pick(this.#workers)),
      'store outages': () =>
        this.#forAWhile(
          5_000,
          () => (this.#store.isDown = true),
          () => (this.#store.isDown = false),
        ),
      'unusable entities': () => {
        const { unusable } = this.#store;
        const entityId = `e${chance.between(0, 7)}`;
        this.#forAWhile(
          5_000,
          () => unusable.add(entityId),
          () => unusable.delete(entityId),
        );
      },
      'clock jumps': () => void (chance.pick(this.#workers).machine.wallOffsetMs = chance.between(-3_600_000, 3_600_000)),
      'replays killed': () => {
        this.#operator.kill();
        this.#operator = this.#newOperator();
        this.#operator.start();
      },
    };
    const fault = chance.pick(Object.keys(happens)) as Fault;
    if (this.#workers.length > 0 && this.#world.strikes(fault, 1)) {
      this.#world.note('world', fault);
      happens[fault]!();
    }
    schedule.after(chance.between(50, 1_500), () => this.#disturb());
  }

  #replace(worker: ModelWorker, end: (worker: ModelWorker) => void): void {
    this.#workers.splice(this.#workers.indexOf(worker), 1);
    end(worker);
    this.#world.schedule.after(this.#world.chance.between(0, 3_000), () => this.#startWorker());
  }

  /** Frozen for long, its connections are closed by the broker: it wakes as one that does not know it. */
  #freeze(worker: ModelWorker): void {
    const isLong = this.#world.chance.hits(0.6);
    this.#forAWhile(
      8_000,
      () => worker.machine.freeze(),
      () => worker.machine.wake(),
    );
    if (isLong) worker.severed();
  }

  #forAWhile(longestMs: number, begin: () => void, end: () => void): void {
    begin();
    this.#world.schedule.after(this.#world.chance.between(1, longestMs), end);
  }

  #heal(): void {
    this.#world.heal();
    // An owner that is given nothing begins no epoch, and looks for no dead letters that its predecessor has left.
    for (let shard = 0; shard < this.#setting.shards; shard++) {
      const letter = { id: `last-${shard}`, kind: 'event', entityId: `last-${shard}`, sequence: 1, value: 1, shard } as const;
      this.#world.ledger.letters.set(letter.id, letter);
      this.#send(letter, 0);
    }
    this.#lookWhetherAtRest();
  }

  #lookWhetherAtRest(): void {
    const { schedule, ledger } = this.#world;
    this.isAtRest = this.#sending === 0 && ledger.unsettled === 0 && this.#operator.hasNothingToDo;
    if (this.isAtRest) return;
    if (schedule.nowMs > faultsEndMs + restWithinMs) {
      const detail = `${ledger.unsettled} messages are not settled, ${this.#broker.deadLetters.length} dead letters`;
      return ledger.fail('it does not come to rest', detail);
    }
    schedule.after(500, () => this.#lookWhetherAtRest());
  }
}

function copyOf(letter: Letter): Copy {
  const { id, kind, entityId, sequence, value } = letter;
  const text = envelopeText({ id, entityType: 'thing', entityId, sequence, type: 'Happened', data: { value } });
  const body = Buffer.from(kind === 'malformed' ? text.slice(0, -1) : text);
  return { letter, message: rawMessage({ body, routingKey: entityId, messageId: id, contentType: 'application/json' }) };
}
