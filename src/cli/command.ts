/**
 * What a command is: a row with its name, its flags and a function. The frame (`run.ts`) finds it, parses its
 * arguments strictly, prints its help and turns what it throws into one readable line and an exit code. A
 * command touches nothing of the process but its `CommandIo`, so a test runs it like a function.
 */
import type { Environment } from '../config/load.ts';
import type { VariableName } from '../config/variables.ts';
import type { Time } from '../time.ts';

/** 0 done, 1 failed, 2 bad usage or configuration. */
export type ExitCode = 0 | 1 | 2;

/** Where text goes. */
export interface Output {
  /** Answers, once the text has been taken, whether more of it can be. Never rejects. */
  write(text: string): Promise<boolean>;
  /** Why text was lost; null while none was. A reader that went away (`| head`) wants no more: that loses nothing. */
  readonly trouble: string | null;
}

export interface CommandIo {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly stdin: NodeJS.ReadableStream;
  readonly env: Environment;
  /** Whether standard output is a terminal: progress is shown there and nowhere else. */
  readonly isTTY: boolean;
  readonly time: Time;
  /**
   * Takes SIGINT and SIGTERM over for a command that has something to finish: the first aborts the signal,
   * the second ends the process at once with 1. Until it is called, the first one ends the process.
   */
  takeSignals(): AbortSignal;
  /** From now on an error that nobody caught is reported here; the process then ends with 1. */
  onCrash(report: (error: unknown) => void): void;
  /** From now on SIGUSR2 calls this; before, it ends the process. */
  onLevelSignal(change: () => void): void;
  /** Where a worker's log goes: standard output, written before it returns, and no failure of it matters. */
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

/** Flags are false unless given; values are null unless given. The last of several counts. */
export type OptionValues<Options extends OptionTable> = {
  readonly [Name in keyof Options]: Options[Name] extends FlagOption ? boolean : string | null;
};

export interface CommandArgs<Options extends OptionTable = OptionTable> {
  /** As many as the command's `positionals` allow. */
  readonly positionals: readonly string[];
  readonly options: OptionValues<Options>;
}

export interface Command {
  /** As it is typed; of two words for one of a group: `topology apply`. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Paragraphs for `--help`, after the usage. */
  readonly description: string;
  /** Names of the positional arguments, in the usage's notation: `ID`, `[FILE|-]`. One in brackets may be absent. */
  readonly positionals: readonly string[];
  readonly options: OptionTable;
  /** Variables that `--help` explains. */
  readonly variables: readonly VariableName[];
  run(args: CommandArgs, io: CommandIo): Promise<ExitCode>;
}

/** What a command is written with: `run` sees the options by name and type. */
export interface CommandSpec<Options extends OptionTable> extends Omit<Command, 'options' | 'run'> {
  readonly options: Options;
  run(args: CommandArgs<Options>, io: CommandIo): Promise<ExitCode>;
}

export function defineCommand<const Options extends OptionTable>(spec: CommandSpec<Options>): Command {
  return {
    ...spec,
    // The frame fills in exactly the options of the table that stands here.
    run: (args, io) => spec.run(args as CommandArgs<Options>, io),
  };
}

export function flag(meaning: string): FlagOption {
  return { kind: 'flag', meaning };
}

/** `placeholder` stands for the value in the usage: `--type T`. */
export function value(placeholder: string, meaning: string): ValueOption {
  return { kind: 'value', placeholder, meaning };
}

/** The flag of every command that prints data. */
export const jsonOption = flag('Print JSON; of a list, one object per line.');

/** Of commands for which ID may be left out. */
export const entityTypeOption = value('T', 'Type of the entity; default ENTITY_TYPE. Without ID: only entities of this type; default all.');

/** Variables that say where the stores are, and what the dead letters are read with. */
export const storeVariables: readonly VariableName[] = ['STATE_STORE', 'REDIS_URL', 'DATABASE_URL', 'STREAM', 'FIRST_SEQUENCE'];
export const eventStoreVariables: readonly VariableName[] = ['EVENT_STORE', 'DATABASE_URL', 'REDIS_URL', 'STREAM', 'FIRST_SEQUENCE'];
export const letterVariables: readonly VariableName[] = ['AMQP_URL', ...storeVariables, 'ENTITY_TYPE'];
