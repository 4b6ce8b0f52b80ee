/**
 * The whole of Inorder in one run, on a real broker and a real store: the lives of some orders are published in
 * disarray to two workers, one of which is killed half-way, and in the end every order is compared with a computation
 * of its own.
 */
import type { DeadLetter } from '../../src/dead-letters/dead-letter.ts';
import { listDeadLetters } from '../../src/dead-letters/inspect.ts';
import { defaultEventLimits } from '../../src/events/event.ts';
import { createLog } from '../../src/observability/log.ts';
import { systemTime } from '../../src/time.ts';
import type { Services } from '../local/services.ts';
import { waitUntil } from '../local/wait-until.ts';
import { expect, type Expectation } from './expectation.ts';
import { balance } from './ledger.ts';
import { type DemoMessage, messagesOf, type Faults, planFaults } from './faults.ts';
import { orderLives } from './order-lives.ts';
import { disarrange, duplicateShare, publishAll, shuffleWindow } from './publishing.ts';
import { farewell, number, progressLine, renderDeadLetters, renderLedger, Screen, step } from './report.ts';
import { gapTimeoutMs, shards, Stage } from './stage.ts';
import { type DemoWorker, type Observation, Watch } from './workers.ts';

export { publishTraffic } from './publishing.ts';

export interface DemoOptions {
  /** At least 20, or the faults would meet in one order. */
  readonly orders: number;
  readonly seed: number;
  readonly env: NodeJS.ProcessEnv;
  readonly write: (text: string) => void;
  readonly isTTY: boolean;
  /** Aborting it ends the demo early: everything is removed, then `runDemo` rejects. */
  readonly signal: AbortSignal;
}

const settleTimeoutMs = 300_000;

const sources: Readonly<Record<Services['source'], string>> = {
  given: 'as given by AMQP_URL and REDIS_URL',
  docker: 'in Docker',
  'private-nodes': 'as private nodes of the installed programs',
};

/** True when everything balances. */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  const { orders, seed, env } = options;
  const screen = new Screen(options.write, options.isTTY);
  const startedMs = systemTime.nowMs();
  const events = orderLives({ orders, seed, startMs: systemTime.wallMs() });
  const faults = planFaults(events);
  const messages = await disarrange(messagesOf(events, faults), seed);
  screen.print(`\nThe lives of ${number(orders)} orders, ${number(events.length)} events\n\n`);
  const stage = await Stage.set({ env, log: (line) => screen.print(step('services', line)) });
  try {
    const play = new Play(stage, screen, options);
    await play.prepare();
    const { observation, confirmed } = await play.play(messages, faults);
    const expectation = expect(confirmed, faults.failing);
    const deadLetters = await play.deadLetters(expectation);
    const ledger = await balance({
      confirmed: confirmed.length,
      expectation,
      faults,
      depths: await stage.depths(),
      deadLetters,
      store: stage.store,
    });
    screen.print(`\n${renderLedger(ledger, observation)}\n${renderDeadLetters(deadLetters, faults)}\n`);
    screen.print(farewell(ledger.problems, systemTime.nowMs() - startedMs));
    return ledger.problems.length === 0;
  } finally {
    screen.progress('');
    await stage.remove();
  }
}

/** What happens on the stage, in three acts. */
class Play {
  readonly #stage: Stage;
  readonly #screen: Screen;
  readonly #signal: AbortSignal;

  constructor(stage: Stage, screen: Screen, { signal }: DemoOptions) {
    this.#stage = stage;
    this.#screen = screen;
    this.#signal = signal;
  }

  async prepare(): Promise<void> {
    const { services, stream } = this.#stage;
    this.#screen.print(step('services', `RabbitMQ and Redis, ${sources[services.source]}`));
    this.#signal.throwIfAborted();
    await this.#stage.declareTopology();
    this.#screen.print(step('topology', `exchange ${stream}, ${shards} quorum queues with one active consumer each`));
  }

  /** Publishes, kills a worker half-way, and waits until nothing is left to do. */
  async play(messages: readonly DemoMessage[], faults: Faults): Promise<{ observation: Observation; confirmed: readonly DemoMessage[] }> {
    const victim = await this.#startWorker('worker 1');
    const standby = await this.#startWorker('worker 2');
    this.#screen.print(
      step('workers', `2 processes: worker 1 (pid ${victim.pid}) has every queue, worker 2 (pid ${standby.pid}) stands by`),
    );
    const duplicates = `${duplicateShare * 100} % sent twice`;
    const strays = `${faults.lost.length} events lost for good, 1 message cut off, 1 event whose processor fails`;
    this.#screen.print(step('publishing', `${number(messages.length)} messages, shuffled within ${shuffleWindow}, ${duplicates},`));
    this.#screen.print(step('', strays));

    const confirmed: DemoMessage[] = [];
    let dying: Promise<void> | null = null;
    const watch: Watch = new Watch((observation) => {
      this.#screen.progress(progressLine(confirmed.length, messages.length, observation));
      if (dying === null && observation.settled >= messages.length / 2) dying = this.#replace(victim, watch, observation);
      return dying ?? undefined;
    });
    watch.add(victim);
    watch.add(standby);
    watch.start();
    try {
      await this.#publish(messages, (message) => confirmed.push(message));
      const observation = await this.#untilSettled(watch, standby);
      return { observation, confirmed };
    } finally {
      this.#screen.progress('');
      await watch.stop();
    }
  }

  /** What lies in the dead-letter queue once everything that is expected there has arrived, or cannot any more. */
  async deadLetters(expectation: Expectation): Promise<readonly DeadLetter[]> {
    const { stream, store, connection } = this.#stage;
    // A rejected message is on its way for a moment: the broker moves it when it has been confirmed there.
    const arrived = async () => (await this.#stage.depths()).deadLetters >= expectation.deadLettered;
    await waitUntil(arrived, { timeoutMs: 10_000, what: 'the dead letters' }).catch(() => undefined);
    const letters: DeadLetter[] = [];
    const decoding = { limits: defaultEventLimits, defaultEntityType: 'order', unsequenced: 'reject' as const };
    for await (const page of listDeadLetters({ connection, stream, store, decoding, time: systemTime })) letters.push(...page);
    return letters;
  }

  #publish(messages: readonly DemoMessage[], onConfirmed: (message: DemoMessage) => void): Promise<void> {
    const { services, stream } = this.#stage;
    const log = createLog({ level: 'warn', service: 'demo', writeLine: (line) => this.#screen.print(line), time: systemTime });
    return publishAll(messages, { urls: [services.amqpUrl], stream, log, signal: this.#signal }, onConfirmed);
  }

  async #startWorker(name: string): Promise<DemoWorker> {
    const worker = await this.#stage.startWorker(name);
    await worker.untilReady(this.#signal);
    return worker;
  }

  /** What dies with it are its counters; what it had not acknowledged goes to the standby, in order. */
  async #replace(victim: DemoWorker, watch: Watch, { settled }: Observation): Promise<void> {
    await victim.kill();
    const newcomer = await this.#stage.startWorker('worker 3');
    watch.add(newcomer);
    this.#screen.print(
      step('SIGKILL', `worker 1, after ${number(settled)} messages; worker 2 takes over, worker 3 (pid ${newcomer.pid}) stands by`),
    );
  }

  /** Nothing ready, nothing unsettled, three times in a row; then the workers stop, and what they had not finished would be ready again. */
  async #untilSettled(watch: Watch, worker: DemoWorker): Promise<Observation> {
    let announced = false;
    let quietLooks = 0;
    const observation = await waitUntil(
      async () => {
        this.#signal.throwIfAborted();
        if (!worker.running) throw await worker.failure('ended');
        const [seen, depths] = [await watch.look(), await this.#stage.depths()];
        if (depths.shards === 0 && seen.unsettled === seen.held && seen.held > 0 && !announced) {
          announced = true;
          this.#screen.print(
            step('waiting', `until ${number(seen.held)} events have waited ${gapTimeoutMs / 1_000} s for the lost ones (GAP_TIMEOUT_MS)`),
          );
        }
        quietLooks = depths.shards === 0 && seen.unsettled === 0 ? quietLooks + 1 : 0;
        return quietLooks >= 3 ? seen : null;
      },
      { timeoutMs: settleTimeoutMs, intervalMs: 100, what: 'everything to be settled' },
    );
    await this.#stage.stopWorkers();
    return observation;
  }
}
