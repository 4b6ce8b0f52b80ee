/**
 * The README as data: the blocks that code makes, its fenced blocks, the examples in them with the output that they
 * show. Tests hold each of these against the code; refresh-readme.ts writes the blocks anew.
 */
import { readFileSync } from 'node:fs';
import type { Command } from '../../src/cli/command.ts';
import { commands } from '../../src/cli/commands.ts';
import { renderVariablesTable } from '../../src/config/render.ts';
import { brokerReasons } from '../../src/dead-letters/broker-death.ts';
import { rejectionReasons } from '../../src/events/reasons.ts';
import { renderMetricsTable } from '../../src/observability/metric-table.ts';
import { kebabCase, readRules } from './alert-rules.ts';
import { checkout } from './checkout.ts';

export const readmePath = `${checkout}README.md`;

export function readReadme(): string {
  return readFileSync(readmePath, 'utf8');
}

/** What stands between `<!-- name:begin -->` and `<!-- name:end -->`, by name. */
export const generatedBlocks: Readonly<Record<string, () => string>> = {
  commands: renderCommandsTable,
  variables: renderVariablesTable,
  reasons: renderReasonsTable,
  metrics: renderMetricsTable,
  alerts: renderAlertsTable,
};

/** Throws where there is no such block. */
export function blockOf(text: string, name: string): string {
  const [begin, end] = marksOf(text, name);
  return text.slice(begin, end);
}

export function withGeneratedBlocks(text: string): string {
  return Object.entries(generatedBlocks).reduce((whole, [name, render]) => {
    const [begin, end] = marksOf(whole, name);
    return `${whole.slice(0, begin)}${render()}${whole.slice(end)}`;
  }, text);
}

function marksOf(text: string, name: string): readonly [begin: number, end: number] {
  const mark = `<!-- ${name}:begin -->\n`;
  const begin = text.indexOf(mark);
  const end = text.indexOf(`<!-- ${name}:end -->`);
  if (begin === -1 || end < begin) throw new Error(`the README has no block ${name}`);
  return [begin + mark.length, end];
}

function renderCommandsTable(): string {
  const rows = commands.map((command) => `| \`${cell(usageOf(command))}\` | ${optionsOf(command)} | ${cell(command.summary)} |`);
  return ['| `inorder …` | Options | |', '|---|---|---|', ...rows, ''].join('\n');
}

function usageOf({ name, positionals }: Command): string {
  return [name, ...positionals].join(' ');
}

function optionsOf({ options }: Command): string {
  const flags = Object.entries(options).map(([name, option]) => {
    return `\`--${name}${option.kind === 'flag' ? '' : ` ${option.placeholder}`}\``;
  });
  return cell(flags.join(' '));
}

function renderReasonsTable(): string {
  const rows = Object.entries({ ...rejectionReasons, ...brokerReasons }).map(([reason, { meaning, cause, remedy }]) => {
    return `| \`${reason}\` | ${cell(meaning)} | ${cell(cause)} | ${cell(remedy)} |`;
  });
  return ['| Reason | What happened | Usual cause | What to do |', '|---|---|---|---|', ...rows, ''].join('\n');
}

function renderAlertsTable(): string {
  const rows = readRules().alerts.map(({ alert, labels, annotations }) => {
    const meaning = (annotations['summary'] ?? '').replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, '*$1*');
    return `| [${alert}](#runbook-${kebabCase(alert)}) | ${labels.severity} | ${cell(meaning)} |`;
  });
  return ['| Alert | Severity | Meaning |', '|---|---|---|', ...rows, ''].join('\n');
}

const cell = (text: string) => text.replaceAll('|', '\\|');

export interface Fence {
  readonly language: string;
  /** Without the indentation of a list that it stands in. */
  readonly text: string;
}

export function fencesOf(markdown: string): readonly Fence[] {
  return [...markdown.matchAll(/^( *)```(\w*)\n([\s\S]*?)^ *```$/gm)].map(([, indent = '', language = '', text = '']) => {
    return { language, text: text.replaceAll(new RegExp(`^${indent}`, 'gm'), '') };
  });
}

/** One command of a console block, with the lines that the README shows below it. */
export interface Example {
  readonly command: string;
  readonly output: readonly string[];
}

/** In the order of the README. */
export function examplesOf(markdown: string): readonly Example[] {
  return fencesOf(markdown)
    .filter(({ language }) => language === 'console')
    .flatMap(({ text }) =>
      text.split(/^(?=\$ )/m).map((example) => {
        const [command = '', ...output] = example.trimEnd().split('\n');
        return { command: command.replace(/^\$ /, '').replace(/ {2,}#.*$/, ''), output };
      }),
    );
}

/**
 * Whether an output is what the README shows: `…` on a line of its own stands for any lines; times, durations, the
 * shard that an entity falls into, who is at the keyboard and the width of columns may differ.
 */
export function isShown(shown: readonly string[], output: string): boolean {
  const pattern = shown.map((line) => (line.trim() === '…' ? '(?:.*\n)*' : `${linePattern(line)}\n`)).join('');
  return new RegExp(`^${pattern}$`).test(`${output.trimEnd()}\n`);
}

const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`;

/** What differs from run to run, and the pattern that takes its place. */
const varying: readonly (readonly [where: string, pattern: string])[] = [
  [time, time],
  [String.raw`\d+ ms`, String.raw`\d+ ms`],
  [String.raw`(?<=^shard +)\d+$`, String.raw`\d+`],
  [String.raw`\d+(?=  ${time}$)`, String.raw`\d+`],
  [String.raw`\S+@\S+`, String.raw`\S+@\S+`],
  [' {2,}', ' +'],
];

function linePattern(line: string): string {
  const anyVarying = new RegExp(varying.map(([where]) => `(${where})`).join('|'), 'g');
  let pattern = '';
  let at = 0;
  for (const match of line.trimEnd().matchAll(anyVarying)) {
    const kind = match.slice(1).findIndex((text) => text !== undefined);
    pattern += literally(line.slice(at, match.index)) + (varying[kind]?.[1] ?? '');
    at = match.index + match[0].length;
  }
  return pattern + literally(line.trimEnd().slice(at));
}

function literally(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** TypeScript that the README shows. */
export function snippetsOf(markdown: string): readonly string[] {
  return fencesOf(markdown)
    .filter(({ language }) => language === 'ts')
    .map(({ text }) => text);
}
