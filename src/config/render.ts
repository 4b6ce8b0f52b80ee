/**
 * Renders the table of variables for `--help`, this folder's README and `.env.example`. A test compares
 * the last two with the files.
 */
import { variableNames, variables } from './variables.ts';
import type { VariableName } from './variables.ts';

/** Rows of Markdown: variable, default, meaning with allowed values. */
export function renderVariablesTable(): string {
  const rows = variableNames.map((name) => {
    const { defaultText, kind, meaning } = variables[name];
    const shownDefault = defaultText === null ? '' : `\`${defaultText}\``;
    return `| \`${name}\` | ${shownDefault} | ${escapeCell(meaning)} ${escapeCell(capitalised(kind.allowed))}. |`;
  });
  return ['| Variable | Default | Meaning |', '|---|---|---|', ...rows, ''].join('\n');
}

/** A file with every variable commented out at its default. */
export function renderEnvExample(): string {
  const entries = variableNames.map((name) => {
    const { defaultText, kind, meaning, secret } = variables[name];
    const lines = wrap(plain(`${meaning} ${capitalised(kind.allowed)}.`), 98).map((line) => `# ${line}`);
    if (secret) lines.push(`# ${name}_FILE may name a file that holds it instead.`);
    return [...lines, `#${name}=${defaultText ?? ''}`, ''].join('\n');
  });
  return [
    '# Every variable of Inorder at its default. An empty one counts as unset; unknown ones that look like these',
    '# are refused. White space around a value is taken off, and quotes that reach Inorder are refused. Export them, or start',
    '# with `node --env-file=.env`.',
    '',
    ...entries,
  ].join('\n');
}

/** Lines for `--help`, for the given variables or all. */
export function renderVariablesHelp(names: readonly VariableName[] = variableNames): string {
  const width = Math.max(...names.map((name) => name.length));
  return names
    .map((name) => {
      const { defaultText, kind, meaning } = variables[name];
      const text = `${meaning} ${capitalised(kind.allowed)}.${defaultText === null ? '' : ` Default: ${defaultText}.`}`;
      const [first, ...others] = wrap(plain(text), 110 - width - 4);
      return [`  ${name.padEnd(width)}  ${first}`, ...others.map((line) => `  ${' '.repeat(width)}  ${line}`), ''].join('\n');
    })
    .join('');
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const plain = (text: string) => text.replaceAll('`', '');
const escapeCell = (text: string) => text.replaceAll('|', '\\|');
const capitalised = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
