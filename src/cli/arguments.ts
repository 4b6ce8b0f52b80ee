/**
 * Parses a command's arguments strictly: an unknown option, a missing value or a superfluous word is
 * refused in one line that names it.
 */
import { parseArgs } from 'node:util';
import { editDistance } from '../config/near-miss.ts';
import type { ValueKind } from '../config/parsers.ts';
import { ConfigError } from '../errors.ts';
import type { Command, CommandArgs } from './command.ts';

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
