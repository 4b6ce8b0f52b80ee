/**
 * Every command of `inorder`, and the frame around it. Guarantees one readable line on standard error per problem, without
 * credentials and without a stack (unless LOG_LEVEL is `debug`), and the right exit code.
 */
import { trimmed } from '../config/given-text.ts';
import { renderVariablesHelp } from '../config/variables.ts';
import { ConfigError, InorderError, messageOf } from '../errors.ts';
import { maxExamined, printable, redactUrls, withoutSecrets } from '../printable.ts';
import { auditTrail as audit } from './change.ts';
import { closest, parseArguments, type Command, type CommandIo, type ExitCode } from './command.ts';
import { discard as deadLettersDiscard, replay as deadLettersReplay } from './dead-letters-change.ts';
import { exportLetters as deadLettersExport, list as deadLettersList, show as deadLettersShow } from './dead-letters.ts';
import { command as doctor } from './doctor.ts';
import { importEntities as entityImport, resync as entityResync } from './entity-change.ts';
import { list as entityList, show as entityShow } from './entity.ts';
import { appendEvents as eventsAppend, listEvents as eventsList, relay } from './events.ts';
import { command as permissions } from './permissions.ts';
import { console, worker } from './worker.ts';
import { demo } from './demo.ts';
import { command as publish } from './publish.ts';
import { recover, resumeShards as shardsResume } from './recover.ts';
import { command as status } from './status.ts';
import { apply as topologyApply, check as topologyCheck, show as topologyShow } from './topology.ts';
import { rebuild, verify as eventsVerify } from './verify-rebuild.ts';

/** Aliases of the first word of a command. */
const aliases: Readonly<Record<string, string>> = { dlq: 'dead-letters' };

export interface Cli {
  readonly commands: readonly Command[];
  readonly version: string;
}

/** `words` are the arguments after `inorder`. Never rejects. */
export async function runCli(cli: Cli, words: readonly string[], io: CommandIo): Promise<ExitCode> {
  // By itself Node would print an error of an operator's module as it was thrown.
  io.onCrash((error) => report(error, io));
  const exitCode = await dispatch(cli, words, io).catch((error: unknown) => report(error, io));
  const { trouble } = io.stdout;
  if (trouble === null) return exitCode;
  await io.stderr.write(`inorder: not everything could be written to standard output: ${oneLine(trouble)}\n`);
  return exitCode === 0 ? 1 : exitCode;
}

async function dispatch(cli: Cli, words: readonly string[], io: CommandIo): Promise<ExitCode> {
  const [first, ...others] = words;
  if (first === undefined) {
    await io.stderr.write(renderCommandList(cli.commands));
    return 2;
  }
  if (first === '--version' || first === '-v') {
    await io.stdout.write(`${cli.version}\n`);
    return 0;
  }
  const wantsHelp = first === 'help' || first === '--help' || first === '-h';
  if (wantsHelp && others.length === 0) {
    await io.stdout.write(renderCommandList(cli.commands));
    return 0;
  }
  const { command, rest } = find(cli.commands, wantsHelp ? [...others, '--help'] : words);
  if (command === null) {
    await io.stdout.write(renderCommandList(rest));
    return 0;
  }
  const args = parseArguments(command, rest);
  if (args !== null) return await command.run(args, io);
  await io.stdout.write(renderCommandHelp(command));
  return 0;
}

type Found =
  | { readonly command: Command; readonly rest: readonly string[] }
  | { readonly command: null; readonly rest: readonly Command[] };

/** The command and the words after its name; or, for a group's name with `--help`, the group's commands. */
function find(commands: readonly Command[], typed: readonly string[]): Found {
  const [typedFirst = '', ...typedRest] = typed;
  const words = [Object.hasOwn(aliases, typedFirst) ? aliases[typedFirst]! : typedFirst, ...typedRest];
  for (const length of [2, 1]) {
    const command = commands.find(({ name }) => name === words.slice(0, length).join(' ') && name.split(' ').length === length);
    if (command !== undefined) return { command, rest: words.slice(length) };
  }
  const [first, second] = words as [string, string?];
  const group = commands.filter(({ name }) => name.startsWith(`${first} `));
  if (group.length === 0) {
    const meant = closest(first, [...new Set(commands.map(({ name }) => name.split(' ', 1)[0]!))]);
    throw new ConfigError([
      `unknown command ${JSON.stringify(typedFirst)}${meant === null ? '' : `: did you mean \`${meant}\`?`} (see \`inorder --help\`)`,
    ]);
  }
  if (second === '--help' || second === '-h') return { command: null, rest: group };
  const choices = group.map(({ name }) => name.slice(first.length + 1));
  const problem =
    second === undefined || second.startsWith('-')
      ? `\`${first}\` needs one of ${choices.join(', ')}`
      : `unknown command ${JSON.stringify(`${first} ${second}`)}: there are ${choices.join(', ')}`;
  throw new ConfigError([`${problem} (see \`inorder ${first} --help\`)`]);
}

async function report(error: unknown, io: CommandIo): Promise<ExitCode> {
  const problems = error instanceof ConfigError ? error.problems : [lineOf(error)];
  for (const problem of problems) await io.stderr.write(`inorder: ${oneLine(redactUrls(problem))}\n`);
  if (trimmed(io.env['LOG_LEVEL'] ?? '') === 'debug') await io.stderr.write(`${withoutSecrets(stackOf(error), maxExamined)}\n`);
  return error instanceof ConfigError ? 2 : 1;
}

function lineOf(error: unknown): string {
  if (error instanceof InorderError) return messageOf(error);
  const message = messageOf(error) || (error instanceof Error ? error.name : 'something empty was thrown');
  return `unexpected error: ${message} (LOG_LEVEL=debug prints where)`;
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return messageOf(error);
  const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack ?? error.cause.message}` : '';
  return `${error.stack ?? error.message}${cause}`;
}

const oneLine = (text: string) => printable(text.replace(/\s*[\r\n]+\s*/g, '; '));

function renderCommandList(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => usageOf(command).length));
  const rows = commands.map((command) => `  ${usageOf(command).padEnd(width)}  ${command.summary}`);
  return [
    'Processes the events of each entity strictly in order and exactly once in effect, on RabbitMQ and Redis.',
    '',
    'Usage: inorder COMMAND [OPTIONS]',
    '',
    ...rows,
    '',
    '`dlq` is short for `dead-letters`. `inorder COMMAND --help` explains a command with its options,',
    '`inorder worker --help` every environment variable. `inorder --version` prints the version.',
    'Exit codes: 0 done, 1 failed, 2 bad usage or configuration.',
    '',
  ].join('\n');
}

function renderCommandHelp(command: Command): string {
  const options = Object.entries(command.options).map(([name, option]) => {
    return [option.kind === 'flag' ? `--${name}` : `--${name} ${option.placeholder}`, option.meaning] as const;
  });
  const rows = [...options, ['--help', 'Print this.'] as const];
  const width = Math.max(...rows.map(([left]) => left.length));
  const sections = [
    `Usage: inorder ${usageOf(command)}${options.length > 0 ? ' [OPTIONS]' : ''}`,
    command.description,
    ['Options:', ...rows.map(([left, meaning]) => `  ${left.padEnd(width)}  ${meaning}`)].join('\n'),
  ];
  if (command.variables.length > 0) {
    sections.push(`Environment:\n${renderVariablesHelp(command.variables)}`.trimEnd());
  }
  return `${sections.join('\n\n')}\n`;
}

function usageOf(command: Command): string {
  return [command.name, ...command.positionals].join(' ');
}

/** In the order of `--help`. A new one is an import and a row. */
export const commands: readonly Command[] = [
  worker,
  publish,
  relay,
  topologyApply,
  topologyCheck,
  topologyShow,
  permissions,
  shardsResume,
  entityShow,
  entityList,
  entityResync,
  entityImport,
  deadLettersList,
  deadLettersShow,
  deadLettersReplay,
  deadLettersDiscard,
  deadLettersExport,
  eventsList,
  eventsAppend,
  eventsVerify,
  rebuild,
  recover,
  audit,
  console,
  status,
  doctor,
  demo,
];
