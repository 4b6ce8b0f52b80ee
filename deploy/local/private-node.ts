/**
 * The life of a private node, whatever program it runs. `stop` ends it for good and removes its data; `kill`, `shutdown`
 * and `restart` keep ports and data, so that a client sees the same server come back. It dies with the process that
 * started it (guarded-process.ts).
 */
import type { GuardedProcess } from './guarded-process.ts';
import { removePrivateDirectory, sweepStaleDirectories } from './private-directory.ts';

const startAttempts = 3;
/** Ends only what hangs. Who has a user that waits hands in less. */
const usualStartTimeoutMs = 300_000;

export interface PrivateNodeOptions {
  /** Everything that the node writes; removed by `stop`. */
  readonly directory: string;
  /** How long an orderly end may take before it becomes a SIGKILL, in milliseconds. */
  readonly shutdownGraceMs: number;
  /** How long it may take to come up, at each start. Default 300,000. */
  readonly startTimeoutMs?: number | undefined;
}

export abstract class PrivateNode {
  readonly #options: PrivateNodeOptions;
  #process: GuardedProcess | null = null;

  protected constructor(options: PrivateNodeOptions) {
    this.#options = options;
  }

  /** Starts the program; it may be of use only later. */
  protected abstract spawn(): Promise<GuardedProcess>;

  /** Resolves when it can be used; throws, with what it logged, when it ends instead or does not come up in time. */
  protected abstract waitReady(timeoutMs: number): Promise<void>;

  get running(): boolean {
    return this.#process?.running ?? false;
  }

  /** Starts it and resolves when it can be used. */
  protected async launch(): Promise<void> {
    this.#process = await this.spawn();
    await this.waitReady(this.#options.startTimeoutMs ?? usualStartTimeoutMs);
  }

  /** SIGKILL; ports and what is on disk stay for `restart`. */
  async kill(): Promise<void> {
    await this.#process?.kill();
  }

  /** An orderly end that keeps ports and data for `restart`. */
  async shutdown(): Promise<void> {
    await this.#process?.terminate(this.#options.shutdownGraceMs);
  }

  /** Starts it again on its ports and data, after an orderly end if it still runs. */
  async restart(): Promise<void> {
    await this.shutdown();
    await this.launch();
  }

  protected signal(signal: NodeJS.Signals): void {
    this.#process?.signal(signal);
  }

  /** Connections stay open and nothing answers, from when this resolves until `resume`. */
  async suspend(): Promise<void> {
    await this.#process?.suspend();
  }

  resume(): void {
    this.signal('SIGCONT');
  }

  /** Ends it at once and removes its data. Safe to call twice. */
  async stop(): Promise<void> {
    await this.kill();
    this.#process = null;
    await removePrivateDirectory(this.#options.directory);
  }
}

/** How one kind of node is made. */
export interface NodeStart<Node extends PrivateNode> {
  /** Draws directory and ports. */
  readonly draw: () => Promise<Node>;
  readonly start: (node: Node) => Promise<void>;
  /** What the program says of a port that another one has. */
  readonly portTaken: string;
}

/** A node that runs. One that does not start is removed; with other ports it is tried again if it was for them. */
export async function startNode<Node extends PrivateNode>({ draw, start, portTaken }: NodeStart<Node>): Promise<Node> {
  await sweepStaleDirectories();
  for (let attempt = 1; ; attempt++) {
    const node = await draw();
    try {
      await start(node);
      return node;
    } catch (error) {
      await node.stop();
      if (attempt === startAttempts || !String(error).includes(portTaken)) throw error;
    }
  }
}
