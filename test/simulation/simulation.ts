/**
 * One simulated world from its scenario to rest: a producer, several workers for each shard, an operator who replays, and whatever goes
 * wrong; then the faults end, and everything has to come to rest within a bound.
 */
import { defaultSequencerLimits, type SequencerLimits } from '../../src/ordering/facts.ts';
import { EventLog } from './event-log.ts';
import type { Failure, Letter, Rule } from './ledger.ts';
import { messageOf, ModelBroker, objections } from './model-broker.ts';
import { ModelStore, type Write } from './model-store.ts';
import { ModelWorker, type WorkerSetting } from './model-worker.ts';
import { letterHandling, Operator } from './operator.ts';
import { Producers } from './producer.ts';
import { Chance } from './virtual-time.ts';
import { calmWithout, type Fault, faults, losses, type Scenario, World } from './world.ts';

export interface Outcome {
  readonly scenario: Scenario;
  /** Null: every promise was kept. */
  readonly failure: Failure | null;
  readonly steps: number;
  readonly seen: ReadonlySet<string>;
  readonly trace: readonly string[];
}

const faultsEndMs = 20_000;
/** From the end of the faults to rest: the longest resend, gaps, back-offs and replays, one after the other. */
const restWithinMs = 300_000;
const maxSteps = 200_000;
/** A reading that ends after a third of it still gets through the dead letters. */
const readerTimeoutMs = 6_000;
const most = { entities: 5, events: 10, shards: 3 };

/** With less a worker may have to give deliveries back. */
const shortMemoryBytes = 60_000;
const mostLosses = 2;
/** How many processes an event may end before it is found. */
const deathsPerPoison = 4;
/** A number beyond those of the others. */
const stuck = 'e90';
/** Of the store, there and back. */
const slowestAnswerMs = 400;

/**
 * A seed says which faults are on: each is with two seeds of three, and one seed in ten is calm. With three seeds of five the store loses
 * nothing, and nobody has to be told anything.
 */
export function scenarioOf(seed: number): Scenario {
  const chance = new Chance(seed, 'scenario');
  const [isCalm, losesNothing] = [chance.hits(0.1), chance.hits(0.6)];
  const isOff = (fault: Fault) => (isCalm && calmWithout.includes(fault)) || (losesNothing && losses.includes(fault));
  const without = faults.filter((fault) => chance.hits(1 / 3) || (isOff(fault) && !(fault === 'poison' && chance.hits(0.5))));
  return { seed, without, maxEntities: most.entities, maxEvents: most.events };
}

export async function simulate(scenario: Scenario, isTraced = false): Promise<Outcome> {
  const world = new World(scenario, isTraced);
  const simulation = new Simulation(world);
  const { ledger, schedule } = world;
  const crashed = (error: unknown) => ledger.fail('an error that nobody handles', String((error as Error).stack ?? error));
  process.on('unhandledRejection', crashed);
  // Most errors are answers, and the stack of each would cost more than what is done with it.
  const { stackTraceLimit } = Error;
  if (!isTraced) Error.stackTraceLimit = 0;
  try {
    simulation.begin();
    await schedule.run(() => ledger.failure !== null || simulation.isAtRest || schedule.steps > maxSteps);
  } catch (error) {
    crashed(error);
  } finally {
    process.off('unhandledRejection', crashed);
    Error.stackTraceLimit = stackTraceLimit;
  }
  if (ledger.failure === null) {
    if (!simulation.areLettersInOrder) ledger.fail('the dead letters have lost their order', 'although no reader was lost');
    else if (simulation.isAtRest) ledger.rested(simulation.deadLetters, await simulation.parkedEntities(), world.isCalm);
    else ledger.fail('it does not come to rest', `${ledger.unsettled} messages are not settled`);
  }
  const outcome = { scenario, failure: ledger.failure, steps: schedule.steps, seen: world.seen, trace: [...(world.trace ?? [])] };
  simulation.letGo();
  return outcome;
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

/** What the stream does with early events; it passes over missing ones only where the store loses nothing. */
function ruleOf(draw: number, losesNothing: boolean): Rule {
  if (draw < 0.15) return 'fail';
  const leaping = losesNothing ? (['skip', 'log_and_process', 'skip-ahead'] as const)[Math.floor((draw - 0.15) / 0.15)] : undefined;
  return leaping ?? 'buffer';
}

class Simulation {
  readonly #world: World;
  readonly #broker: ModelBroker;
  readonly #store: ModelStore;
  readonly #producers: Producers;
  readonly #log: EventLog;
  readonly #setting: Omit<WorkerSetting, 'dies' | 'crashes' | 'shards'>;
  readonly #isPoisoned: boolean;
  /** How many shards a worker consumes that begins now. */
  #shards: number;
  readonly #workers: ModelWorker[] = [];
  #operator: Operator;
  #named = 0;
  #losses = 0;
  /** With some seeds things go wrong ten times less often: what mends one fault by the way would otherwise hide another. */
  readonly #calm: number;
  /** Of replays. */
  readonly #ratePerSecond: number | undefined;
  /** Publishes that are yet to come. */
  #planned = 0;
  readonly #consumerTimeoutMs: number;
  isAtRest = false;

  constructor(world: World) {
    this.#world = world;
    const { work } = world;
    const shards = work.between(1, 2);
    this.#broker = new ModelBroker(world, shards);
    this.#store = new ModelStore(world);
    this.#producers = new Producers(world, this.#broker);
    this.#log = new EventLog(world, this.#broker, this.#store);
    const prefetch = work.between(5, 40);
    const gapTimeoutMs = work.between(1_000, 4_000);
    const letters = new Chance(world.scenario.seed, 'dead letters');
    this.#ratePerSecond = letters.hits(0.2) ? letters.between(1, 10) : undefined;
    const losesNothing = !losses.some((loss) => world.has(loss));
    const rule = ruleOf(work.next(), losesNothing);
    world.ledger.rule = rule;
    const handlerMs = work.hits(0.4) ? work.pick([20, 300, 800]) : null;
    this.#isPoisoned = work.hits(world.isCalmButForPoison ? 0.8 : 0.25) && world.has('poison');
    const limits: SequencerLimits = {
      ...defaultSequencerLimits,
      prefetch,
      gapTimeoutMs,
      gapRereadMs: Math.ceil(gapTimeoutMs / 4),
      strategy: rule === 'skip-ahead' ? 'buffer' : rule,
      gapTimeoutAction: rule === 'skip-ahead' ? 'skip-ahead' : 'dead-letter',
      unsequenced: work.hits(0.25) && losesNothing ? 'process' : 'reject',
      maxHeld: Math.max(2, Math.floor(prefetch * 0.8)),
      maxHeldPerEntity: work.between(2, 20),
      maxFold: work.pick([1, 4, 256]),
      maxRememberedBytes: work.pick([500, 1_000_000]),
    };
    this.#shards = shards;
    this.#setting = {
      handlerMs: handlerMs ?? (this.#isPoisoned ? 0 : null),
      memoryBytes: work.hits(0.2) ? work.between(20_000, shortMemoryBytes) : 10_000_000,
      autoReplay: work.hits(0.4),
      gapRepairAfterMs: work.hits(0.2) ? work.between(300, 3_000) : null,
      limits,
      ...letterHandling(limits, letters.pick([3, 7, 250])),
    };
    world.ledger.gapTimeoutMs = gapTimeoutMs;
    // A gap may last for a third of it, not longer.
    this.#consumerTimeoutMs = 3 * gapTimeoutMs;
    if (world.has('delivery limits') && world.chance.hits(0.3)) this.#broker.deliveryLimit = world.chance.between(1, 6);
    const { memoryBytes } = this.#setting;
    const isPrompt = this.#setting.handlerMs === null && memoryBytes > shortMemoryBytes;
    world.ledger.room = isPrompt ? Math.min(limits.maxHeld, limits.maxHeldPerEntity) : 0;
    this.#calm = world.chance.hits(0.3) ? 10 : 1;
    this.#operator = this.#newOperator();
  }

  get deadLetters(): readonly Letter[] {
    return this.#broker.deadLetters.all.map(({ letter }) => letter);
  }

  /** Readers of them give them back as they were. */
  get areLettersInOrder(): boolean {
    const { isInOrder, isDisturbed } = this.#broker.deadLetters;
    return isInOrder || isDisturbed;
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
    // Everything at once: what is missing may be in a queue behind a full window.
    const isFlood = work.hits(0.2);
    for (const letter of this.#letters()) {
      const [startMs, stepMs] = paces.get(letter.entityId) ?? [
        work.between(0, 10_000) / (isFlood ? 100 : 1),
        isFlood ? 0 : work.between(0, 800),
      ];
      paces.set(letter.entityId, [startMs, stepMs]);
      this.#send(letter, startMs + letter.sequence * stepMs);
    }
    this.#operator.start();
    this.#disturb();
    this.#disturbClients();
    this.#timeOutConsumers();
    this.#timeOutReaders();
    // A delivery that stays for long costs the channel, and in the end itself.
    const mayStay = !this.#world.has('consumer timeouts') && !this.#world.has('delivery limits');
    if (this.#world.has('stuck entity') && mayStay) schedule.after(work.between(0, 10_000), () => this.#stick());
    schedule.after(faultsEndMs, () => this.#heal());
  }

  /** All that is to be published: the events of every entity, and some that take the place of others. */
  #letters(): readonly Letter[] {
    const { work, scenario, ledger } = this.#world;
    const letters: Letter[] = [];
    const entities = work.between(3, most.entities);
    for (let entity = 0; entity < entities; entity++) {
      const [entityId, shard, events] = [`e${entity}`, entity % this.#shards, work.between(4, most.events)];
      const isUnsequenced = work.hits(0.3) && this.#setting.limits.unsequenced === 'process';
      for (let sequence = 1; sequence <= events; sequence++) {
        const kind = work.hits(0.03) ? (work.hits(0.5) ? 'malformed' : 'forged') : 'event';
        const value = work.between(1, 1_000_000);
        if (entity >= scenario.maxEntities || sequence > scenario.maxEvents) continue;
        const poison = this.#isPoisoned && work.hits(0.02) ? work.pick(['kills', 'blocks'] as const) : undefined;
        letters.push({ id: `${entityId}-${sequence}`, kind: 'event', entityId, sequence, isUnsequenced, poison, value, shard });
        if (kind !== 'event' && this.#world.has('forgeries') && !(isUnsequenced && kind === 'forged'))
          letters.push({ id: `${entityId}-${sequence}-${kind}`, kind, entityId, sequence, value: value + 1, shard });
      }
    }
    for (const letter of letters) ledger.letters.set(letter.id, letter);
    // Where nothing runs for long beside it.
    const isBounded = this.#world.isCalmButForPoison && !this.#world.has('handler failures') && (this.#setting.handlerMs ?? 0) <= 20;
    if (isBounded) ledger.mostPoisoned = deathsPerPoison * letters.filter(({ poison }) => poison !== undefined).length;
    return letters;
  }

  /** An entity whose keys cannot be used until everything else is at rest. Its event is one that finds room beside what may be held. */
  #stick(): void {
    const letter: Letter = { id: `${stuck}-1`, kind: 'event', entityId: stuck, sequence: 1, value: 1, shard: 0 };
    this.#world.ledger.letters.set(letter.id, letter);
    this.#store.unusable.add(stuck);
    this.#broker.publish({ letter, message: messageOf(letter) });
  }

  /** Some are published late, some twice, and some by another producer than the others of their entity. */
  #send(letter: Letter, afterMs: number): void {
    const { schedule, chance, ledger } = this.#world;
    if (this.#log.has(letter)) {
      ledger.logged.add(letter.entityId);
      this.#planned++;
      schedule.after(afterMs, () => {
        this.#planned--;
        this.#log.append(letter);
      });
      return;
    }
    const lateMs = this.#world.strikes('reordering', 0.2) ? chance.between(0, 1_500) : 0;
    const muchLaterMs = this.#world.strikes('lost publishes', 0.05) ? chance.between(500, 15_000) : 0;
    this.#publish(letter, afterMs + lateMs + muchLaterMs);
    if (this.#world.strikes('duplicates', 0.1)) this.#publish(letter, afterMs + chance.between(0, 10_000));
  }

  #publish(letter: Letter, afterMs: number): void {
    const byAnother = this.#world.strikes('reordering', 0.2);
    this.#planned++;
    this.#world.schedule.after(afterMs, () => {
      this.#planned--;
      this.#producers.publish(letter, byAnother);
    });
  }

  /** The producer sends again what was lost. */
  #purge(): void {
    const { chance } = this.#world;
    const lost = chance.pick(this.#broker.queues).purge();
    if (lost.length > 0) this.#world.sometimes('a queue was purged');
    for (const { letter } of lost) this.#publish(letter, chance.between(1_000, 15_000));
  }

  #timeOutReaders(): void {
    if (!this.#world.has('consumer timeouts')) return;
    this.#broker.deadLetters.timeOut(readerTimeoutMs);
    this.#world.schedule.after(1_000, () => this.#timeOutReaders());
  }

  /**
   * Keys change places, as after a cold start of the broker, or a shard is added: then its workers begin anew, one after the other. Who
   * judges a store that loses something does not know to which shard an entity belongs then.
   */
  #changeRing(): void {
    const { chance, schedule, ledger } = this.#world;
    if (losses.some((loss) => this.#world.has(loss))) return;
    if (this.#shards < most.shards && chance.hits(0.5)) {
      this.#broker.addShard();
      this.#shards++;
      this.#world.sometimes('a shard was added');
      for (const worker of this.#workers)
        schedule.after(chance.between(0, 5_000), () => this.#workers.includes(worker) && this.#drain(worker, 0));
    }
    for (let entity = 0; entity < most.entities; entity++) {
      if (chance.hits(0.6)) continue;
      const entityId = `e${entity}`;
      this.#broker.move(entityId, chance.between(0, this.#shards - 1));
      if (ledger.isUnderWay(entityId)) this.#world.sometimes('an entity of which events were under way moved to another shard');
    }
  }

  #timeOutConsumers(): void {
    const { schedule, isHealed } = this.#world;
    if (isHealed || !this.#world.has('consumer timeouts')) return;
    for (const queue of this.#broker.queues) queue.timeOut(this.#consumerTimeoutMs);
    schedule.after(1_000, () => this.#timeOutConsumers());
  }

  #startWorker(): void {
    const dies = (one: ModelWorker) => (this.#workers.includes(one) ? this.#replace(one, () => one.kill(), 1) : one.kill());
    const crashes = (one: ModelWorker) => {
      if (this.#workers.includes(one)) this.#replace(one, () => one.kill(true), 0);
      else one.kill(true);
    };
    const setting = { ...this.#setting, shards: this.#shards, dies, crashes };
    const worker = new ModelWorker(this.#world, this.#broker, this.#store, `w${++this.#named}`, setting);
    this.#workers.push(worker);
    worker.machine.do(() => void worker.start());
  }

  #newOperator(): Operator {
    const { autoReplay: waitsForWorkers, config, pageSize } = this.#setting;
    const { chance, schedule } = this.#world;
    const replays = () => {
      if (this.#world.strikes('replays killed', 0.4)) schedule.after(chance.between(0, 1_000), () => this.#disturbReplay());
    };
    const setting = { waitsForWorkers, ratePerSecond: this.#ratePerSecond, config, pageSize, replays };
    return new Operator(this.#world, this.#broker, this.#store, `o${++this.#named}`, setting);
  }

  /** Something goes wrong every few seconds. */
  #disturb(): void {
    const { schedule, chance, isHealed } = this.#world;
    if (isHealed) return;
    const happens: Record<string, () => void> = {
      'channels lost': () => chance.pick(this.#workers).severed(chance.hits(0.3) ? undefined : chance.between(0, 9)),
      kills: () => this.#replace(chance.pick(this.#workers), (worker) => worker.kill()),
      drains: () => this.#drain(chance.pick(this.#workers)),
      freezes: () => this.#freeze(chance.pick(this.#workers)),
      'store outages': () => this.#storeIsDown(5_000),
      'unusable entities': () => {
        const { unusable } = this.#store;
        const entityId = `e${chance.between(0, most.entities - 1)}`;
        this.#forAWhile(
          5_000,
          () => unusable.add(entityId),
          () => unusable.delete(entityId),
        );
      },
      ...this.#losing(),
      purges: () => this.#purge(),
      'ring changes': () => this.#changeRing(),
      'clock jumps': () => void (chance.pick(this.#workers).machine.wallOffsetMs = chance.between(-3_600_000, 3_600_000)),
      'replays killed': () => this.#disturbReplay(),
    };
    const fault = chance.pick(Object.keys(happens)) as Fault;
    const isTooMuch = losses.includes(fault) && this.#losses >= mostLosses;
    const share = losses.includes(fault) ? 0.3 : fault === 'purges' || fault === 'ring changes' ? 0.2 : 1;
    if (this.#workers.length > 0 && !isTooMuch && this.#world.strikes(fault, share)) {
      this.#world.note('world', fault);
      happens[fault]!();
    }
    schedule.after(this.#calm * chance.between(50, 1_500), () => this.#disturb());
  }

  #disturbReplay(): void {
    if (this.#world.chance.hits(0.3)) return this.#operator.cutOff();
    this.#operator.kill();
    this.#operator = this.#newOperator();
    this.#operator.start();
  }

  /** The same for those who publish. */
  #disturbClients(): void {
    const { schedule, chance, isHealed } = this.#world;
    if (isHealed) return;
    const happens: Partial<Record<Fault, () => void>> = {
      'producers cut off': () => this.#producers.cutOff(),
      'producers ended': () => this.#producers.end(),
      'relays killed': () => this.#log.disturb('killed'),
      'relays frozen': () => this.#log.disturb('frozen'),
      'relays cut off': () => this.#log.disturb('cut off'),
      'publishes refused': () =>
        this.#forAWhile(
          5_000,
          () => this.#broker.object(chance.pick(objections)),
          () => this.#broker.object(null),
        ),
    };
    const fault = chance.pick(Object.keys(happens)) as Fault;
    if (this.#world.strikes(fault, 1)) {
      this.#world.note('world', fault);
      happens[fault]!();
    }
    schedule.after(this.#calm * chance.between(100, 4_000), () => this.#disturbClients());
  }

  /** What the store may lose, and how. */
  #losing(): Record<string, () => void> {
    const [store, { chance, schedule }] = [this.#store, this.#world];
    const lose = (...how: Parameters<ModelStore['lose']>) => {
      this.#losses++;
      void store.lose(...how);
    };
    const before = () => {
      const lastMs = schedule.nowMs - chance.between(0, 3_000);
      return ({ atMs }: Write) => atMs <= lastMs;
    };
    return {
      'tail lost': () => {
        lose(before());
        this.#storeIsDown(2_000);
      },
      'lagging replica': () => {
        const stranded = this.#workers.filter(() => chance.hits(0.5)).map(({ machine }) => machine);
        lose(before(), stranded, chance.between(0, 3_000));
      },
      'entity keys lost': () => {
        const lost = `e${chance.between(0, most.entities - 1)}`;
        lose(({ entityId }) => entityId !== lost);
      },
      'epoch keys lost': () => {
        const { lastEpoch } = store;
        // The last of them, most of the time: then one is given out twice, and where its owner loses its channel to the same shard.
        const fromMs = chance.hits(0.3) ? chance.between(0, schedule.nowMs) : null;
        lose(({ isStreams, atMs, number }) => !isStreams || (fromMs === null ? number !== lastEpoch?.number : atMs < fromMs));
        this.#workers.find(({ machine }) => machine === lastEpoch?.machine)?.severed();
      },
      'store emptied': () => lose(() => false),
    };
  }

  #drain(one: ModelWorker, missing?: number): void {
    const drained = (worker: ModelWorker) => {
      this.#world.sometimes('a worker drained');
      worker.machine.do(() => void worker.stop());
    };
    this.#replace(one, drained, missing);
  }

  /** Now and then nobody comes in its place: then only those who are there already can do what it has left. */
  #replace(worker: ModelWorker, end: (worker: ModelWorker) => void, missing = 0.3): void {
    this.#workers.splice(this.#workers.indexOf(worker), 1);
    end(worker);
    if (this.#workers.length > 0 && this.#world.chance.hits(missing)) return;
    this.#world.schedule.after(this.#world.chance.between(0, 3_000), () => this.#startWorker());
  }

  /** Frozen for long, its connections are closed by the broker: it wakes as one that does not know it. */
  #freeze(worker: ModelWorker): void {
    const isLong = this.#world.chance.hits(0.6);
    const { machine } = worker;
    const { ledger, schedule } = this.#world;
    if (machine.state !== 'running') return;
    const fromMs = schedule.nowMs;
    this.#forAWhile(
      8_000,
      () => machine.freeze(),
      () => {
        machine.wake();
        // A clock counts to its next deadline, and no further than the next reading.
        ledger.paused({ of: machine.name, fromMs, toMs: schedule.nowMs, unnoticedMs: this.#setting.limits.gapRereadMs });
      },
    );
    if (isLong) worker.severed();
  }

  /** Gaps are read again now and then: by then a worker knows. */
  #storeIsDown(longestMs: number): void {
    const { ledger, schedule } = this.#world;
    if (this.#store.isDown) return;
    const fromMs = schedule.nowMs;
    this.#forAWhile(
      longestMs,
      () => (this.#store.isDown = true),
      () => {
        this.#store.isDown = false;
        const isNoticed = schedule.nowMs - fromMs > this.#setting.limits.gapRereadMs + slowestAnswerMs;
        if (isNoticed) ledger.paused({ of: null, fromMs, toMs: schedule.nowMs, unnoticedMs: slowestAnswerMs });
      },
    );
  }

  #forAWhile(longestMs: number, begin: () => void, end: () => void): void {
    begin();
    this.#world.schedule.after(this.#world.chance.between(1, longestMs), end);
  }

  #heal(): void {
    this.#world.heal();
    this.#broker.deliveryLimit = Number.POSITIVE_INFINITY;
    this.#lookWhetherAtRest();
  }

  letGo(): void {
    this.#log.letGo();
  }

  #lookWhetherAtRest(): void {
    const { schedule, ledger } = this.#world;
    const allIsSent = this.#planned === 0 && this.#producers.areDone && this.#log.isDone;
    if (allIsSent && ledger.unsettled === 1 && this.#store.unusable.delete(stuck))
      this.#world.sometimes('an entity was stuck until the end');
    this.isAtRest = allIsSent && ledger.unsettled === 0 && this.#operator.hasNothingToDo;
    if (this.isAtRest) return;
    if (schedule.nowMs > faultsEndMs + restWithinMs) {
      const detail = `${ledger.unsettled} messages are not settled, ${this.#broker.deadLetters.all.length} dead letters`;
      return ledger.fail('it does not come to rest', detail);
    }
    schedule.after(500, () => this.#lookWhetherAtRest());
  }
}
