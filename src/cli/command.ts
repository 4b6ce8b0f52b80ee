/**
 * A command: a row with its name, its options and a function. The frame (`run.ts`) finds it, parses its
 * arguments strictly, prints its help and turns an error into one readable line and an exit code. A
 * command uses the process only through its `CommandIo`, so a test can run it like a function.
 */
import type { Environment } from '../config/load.ts';
import type { VariableName } from '../config/variables.ts';
import type { Time } from '../time.ts';
import { tlsVariables } from '../tls.ts';

/** 0 done, 1 failed, 2 bad usage or configuration. */
export type ExitCode = 0 | 1 | 2;

/** An output for text. */
export interface Output {
  /** Resolves once the text is written, to whether more can be written. Never rejects. */
  write(text: string): Promise<boolean>;
  /** Why text was lost, or null. A reader that closes the pipe (`| head`) loses nothing. */
  readonly trouble: string | null;
}

export interface CommandIo {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly stdin: NodeJS.ReadableStream;
  readonly env: Environment;
  /** Whether standard output is a terminal: progress is shown only there. */
  readonly isTTY: boolean;
  readonly time: Time;
  /**
   * Handles SIGINT and SIGTERM for a command that has something to finish: the first one aborts the signal,
   * the second ends the process at once with 1. Before this call the first one ends the process.
   */
  takeSignals(): AbortSignal;
  /** From this call on, and until the next, uncaught errors are reported here, before the process ends with 1. */
  onCrash(report: (error: unknown) => unknown): void;
  /** From this call on SIGUSR2 calls `listener`; before, it ends the process. */
  onLevelSignal(change: () => void): void;
  /** The output of a worker's log: standard output, written synchronously; failures are ignored. */
  logLine(line: string): void;
}

export interface FlagOption {
  readonly kind: 'flag';
  readonly meaning: string;
}

export interface ValueOption {
  readonly kind: 'value';
  readonly placeholder: string;
  readonly meaning: string;
}

export type OptionTable = Readonly<Record<string, FlagOption | ValueOption>>;

/** Flags default to false, values to null. Of repeated ones the last counts. */
export type OptionValues<Options extends OptionTable> = {
  readonly [Name in keyof Options]: Options[Name] extends FlagOption ? boolean : string | null;
};

export interface CommandArgs<Options extends OptionTable = OptionTable> {
  /** At most as many as the command's `positionals`. */
  readonly positionals: readonly string[];
  readonly options: OptionValues<Options>;
}

export interface Command {
  /** As it is typed; two words for a command of a group: `topology apply`. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Paragraphs for `--help`, after the usage. */
  readonly description: string;
  /** Positional arguments as the usage shows them: `ID`, `[FILE|-]`. One in brackets is optional. */
  readonly positionals: readonly string[];
  readonly options: OptionTable;
  /** Variables that `--help` explains. */
  readonly variables: readonly VariableName[];
  run(args: CommandArgs, io: CommandIo): Promise<ExitCode>;
}

/** The definition of a command: `run` gets the options by name and type. */
export interface CommandSpec<Options extends OptionTable> extends Omit<Command, 'options' | 'run'> {
  readonly options: Options;
  run(args: CommandArgs<Options>, io: CommandIo): Promise<ExitCode>;
}

export function defineCommand<const Options extends OptionTable>(spec: CommandSpec<Options>): Command {
  return {
    ...spec,
    // The frame passes exactly the options of this table.
    run: (args, io) => spec.run(args as CommandArgs<Options>, io),
  };
}

export function flag(meaning: string): FlagOption {
  return { kind: 'flag', meaning };
}

/** `placeholder` is the value in the usage: `--type T`. */
export function value(placeholder: string, meaning: string): ValueOption {
  return { kind: 'value', placeholder, meaning };
}

/** For every command that prints data. */
export const jsonOption = flag('Print JSON; of a list, one object per line.');

/** For commands with an optional ID. */
export const entityTypeOption = value('T', 'Type of the entity; default ENTITY_TYPE. Without ID: only entities of this type; default all.');

/** Variables that commands have in common. */
export const brokerVariables: readonly VariableName[] = ['AMQP_URL', 'AMQP_AUTH', ...Object.values(tlsVariables.AMQP)];
const redisVariables: readonly VariableName[] = ['REDIS_URL', ...Object.values(tlsVariables.REDIS)];
export const stateStoreVariables: readonly VariableName[] = ['STATE_STORE', ...redisVariables, 'DATABASE_URL', 'STREAM'];
export const storeVariables: readonly VariableName[] = [...stateStoreVariables, 'FIRST_SEQUENCE'];
export const eventStoreVariables: readonly VariableName[] = ['EVENT_STORE', 'DATABASE_URL', ...redisVariables, 'STREAM', 'FIRST_SEQUENCE'];
export const letterVariables: readonly VariableName[] = [...brokerVariables, ...storeVariables, 'ENTITY_TYPE'];
export const eventLimitVariables: readonly VariableName[] = ['MAX_BODY_BYTES', 'MAX_ENTITY_ID_BYTES', 'MAX_JSON_DEPTH'];
export const httpVariables: readonly VariableName[] = ['HTTP_HOST', 'HTTP_PORT', 'READ_TOKEN'];
export const userVariables: readonly VariableName[] = [
  'ADMIN_TOKEN',
  'TOKENS_FILE',
  'TRUSTED_USER_HEADER',
  'TRUSTED_PROXIES',
  'TRUSTED_OPERATORS',
];
