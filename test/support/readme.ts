/**
 * The README of the project and those of its folders, as data: the blocks that code makes, fenced blocks, the examples in them
 * with the output that they show, headings and links. Tests hold each of these against the code; refresh-readme.ts writes the
 * blocks again.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import type { Command } from '../../src/cli/command.ts';
import { commands } from '../../src/cli/run.ts';
import { renderVariablesTable } from '../../src/config/variables.ts';
import { brokerReasons } from '../../src/dead-letters/dead-letter.ts';
import { rejectionReasons } from '../../src/events/reasons.ts';
import { renderMetricsTable } from '../../src/observability/metric-table.ts';
import { kebabCase, readRules } from './alert-rules.ts';
import { checkout } from './checkout.ts';

/** Every README, in the order in which one reads who follows the examples: those of one go on where those before it ended. */
export const readmes = [
  'README.md',
  'src/README.md',
  'src/events/README.md',
  'src/aggregates/README.md',
  'src/publishing/README.md',
  'src/worker/README.md',
  'src/ordering/README.md',
  'src/detection/README.md',
  'src/dead-letters/README.md',
  'src/stores/README.md',
  'src/event-sourcing/README.md',
  'src/idempotency/README.md',
  'src/console/README.md',
  'src/config/README.md',
  'src/cli/README.md',
  'src/observability/README.md',
  'deploy/README.md',
  'deploy/permissions/README.md',
  'deploy/prometheus/README.md',
  'test/README.md',
] as const;

export type Readme = (typeof readmes)[number];

export function readReadme(path: Readme = 'README.md'): string {
  return readFileSync(checkout + path, 'utf8');
}

/** All of them, one after the other. */
export function readReadmes(): string {
  return readmes.map(readReadme).join('\n');
}

/** The paths of every README that is there. */
export function findReadmes(): readonly string[] {
  const within = ['src', 'test', 'deploy'].flatMap((folder) =>
    readdirSync(checkout + folder, { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name.replaceAll('\\', '/')}`),
  );
  return ['README.md', ...within.filter((path) => path.endsWith('/README.md'))];
}

export interface GeneratedBlock {
  readonly path: Readme;
  readonly render: () => string;
}

/** What stands between `<!-- name:begin -->` and `<!-- name:end -->`, by name. */
export const generatedBlocks: Readonly<Record<string, GeneratedBlock>> = {
  commands: { path: 'src/cli/README.md', render: renderCommandsTable },
  variables: { path: 'src/config/README.md', render: renderVariablesTable },
  reasons: { path: 'src/dead-letters/README.md', render: renderReasonsTable },
  metrics: { path: 'deploy/prometheus/README.md', render: renderMetricsTable },
  alerts: { path: 'deploy/prometheus/README.md', render: renderAlertsTable },
};

/** Throws where there is no such block. */
export function blockOf(text: string, name: string): string {
  const [begin, end] = marksOf(text, name);
  return text.slice(begin, end);
}

export function withBlock(text: string, name: string, block: string): string {
  const [begin, end] = marksOf(text, name);
  return `${text.slice(0, begin)}${block}${text.slice(end)}`;
}

function marksOf(text: string, name: string): readonly [begin: number, end: number] {
  const mark = `<!-- ${name}:begin -->\n`;
  const begin = text.indexOf(mark);
  const end = text.indexOf(`<!-- ${name}:end -->`);
  if (begin === -1 || end < begin) throw new Error(`there is no block ${name}`);
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

/** The names under which the headings of a text can be linked to. */
export function anchorsOf(markdown: string): readonly string[] {
  return [...withoutFences(markdown).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** Links of the text at `path` that lead to files: the file as seen from the checkout, and the anchor in it, or ''. */
export function linksOf(path: string, markdown: string): readonly (readonly [file: string, anchor: string])[] {
  return [...withoutFences(markdown).matchAll(/\]\(([^)]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^https?:/.test(target))
    .map((target) => {
      const [file = '', anchor = ''] = target.split('#');
      return [file === '' ? path : posix.join(posix.dirname(path), file), anchor];
    });
}

export function withoutFences(markdown: string): string {
  return markdown.replaceAll(/^ *```[\s\S]*?^ *```$/gm, '');
}

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

/** In the order of the text. */
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

/** TypeScript that the text shows. */
export function snippetsOf(markdown: string): readonly string[] {
  return fencesOf(markdown)
    .filter(({ language }) => language === 'ts')
    .map(({ text }) => text);
}
