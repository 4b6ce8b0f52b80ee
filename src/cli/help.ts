/** Help as text, made from the rows of the commands and of the variables. */
import { renderVariablesHelp } from '../config/render.ts';
import type { Command } from './command.ts';

export function renderCommandList(commands: readonly Command[]): string {
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

export function renderCommandHelp(command: Command): string {
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
