/**
 * A command: a row with its name, its options and a function. The frame (`run.ts`) finds it, prints its help and turns an error into
 * one readable line and an exit code. Its arguments are parsed strictly: an unknown option, a missing value or a superfluous word is
 * refused in one line that names it. A command uses the process only through its `CommandIo`, so a test can run it like a function.
 */
import { parseArgs } from 'node:util';
import type { Environment } from '../config/load.ts';
import { editDistance } from '../config/given-text.ts';
import type { ValueKind } from '../config/parsers.ts';
import type { VariableName } from '../config/variables.ts';
import { ConfigError } from '../errors.ts';
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

/** Null if help was asked for. @throws ConfigError for bad usage. */
export function parseArguments(command: Command, words: readonly string[]): CommandArgs | null {
  const types = Object.entries(command.options).map(([name, option]) => {
    return [name, { type: option.kind === 'flag' ? ('boolean' as const) : ('string' as const) }];
  });
  const { tokens } = parseArgs({
    args: [...words],
    options: { ...Object.fromEntries(types), help: { type: 'boolean', short: 'h' } },
    // Node's strict parsing stops at the first problem and prints three sentences about it.
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const problems: string[] = [];
  const positionals: string[] = [];
  const options: Record<string, string | boolean | null> = {};
  for (const [name, option] of Object.entries(command.options)) options[name] = option.kind === 'flag' ? false : null;
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    if (token.name === 'help') return null;
    const problem = optionProblem(command, token);
    if (problem === null) options[token.name] = token.value ?? true;
    else problems.push(problem);
  }
  problems.push(...positionalProblems(command, positionals));
  if (problems.length > 0) throw new ConfigError(problems.map((problem) => `${problem} (see \`inorder ${command.name} --help\`)`));
  return { positionals, options: options as CommandArgs['options'] };
}

interface OptionToken {
  readonly name: string;
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
}

function optionProblem(command: Command, token: OptionToken): string | null {
  const option = Object.hasOwn(command.options, token.name) ? command.options[token.name] : undefined;
  if (option === undefined) {
    const meant = closest(token.name, Object.keys(command.options));
    return `unknown option ${token.rawName}${meant === null ? '' : `: did you mean --${meant}?`}`;
  }
  if (option.kind === 'flag') return token.value === undefined ? null : `${token.rawName} takes no value`;
  // `--type --json` more likely lacks a value than has one that looks like an option.
  const missing = token.value === undefined || (!token.inlineValue && /^-./.test(token.value));
  return missing ? `${token.rawName} needs a value: ${token.rawName}=${option.placeholder}` : null;
}

function positionalProblems(command: Command, given: readonly string[]): string[] {
  const required = command.positionals.filter((name) => !name.startsWith('['));
  if (given.length < required.length) return [`${required[given.length]} is missing`];
  return given.slice(command.positionals.length).map((word) => `unexpected argument ${JSON.stringify(word)}`);
}

/** Parses the value of an option, named as it is typed: `--limit`. @throws ConfigError when it is not of that kind. */
export function optionValue<T>(option: string, text: string, kind: ValueKind<T>): T {
  const value = kind.parse(text);
  if (value === null) throw new ConfigError([`${option} is ${JSON.stringify(text)}: it must be ${kind.allowed}`]);
  return value;
}

/** The word of a list that a misspelt one probably stands for. */
export function closest(word: string, list: readonly string[]): string | null {
  const limit = word.length < 6 ? 1 : 2;
  return list.find((candidate) => editDistance(word, candidate) <= limit) ?? null;
}
