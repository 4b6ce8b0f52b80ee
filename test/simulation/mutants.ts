/**
 * `npm run test:mutants -- [WORD] [--seeds N]`: plants one defect after the other in copies of the sources, one for each core, and lets
 * the simulation look for it. Each has to be found by so many seeds, 20,000 where nothing is said; one in the core that they miss may be
 * found in a small world. A defect whose text is no longer in its file is an error: it is to be planted anew. With a word only those that
 * have it in their names.
 *
 * What found each is kept in test/README.md.
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkout } from '../support/checkout.ts';
import { explore, scopes } from './exhaustive.ts';
import { openCore } from './opened-core.ts';
import { type Mutant, mutants } from './planted-defects.ts';

interface Finding {
  /** As it is kept. */
  readonly by: string;
  readonly symptom: string;
}

const readmePath = join(checkout, 'test/README.md');
const [begin, end] = ['<!-- mutants:begin -->\n```\n', '```\n<!-- mutants:end -->'];
/** Of a small world with a defect, which may have no end. */
const mostStates = 100_000;

function plant({ name, edits }: Mutant, copy: string): () => void {
  const before = new Map<string, string>();
  for (const { file, find, put } of edits) {
    const path = join(copy, 'src', file);
    const text = readFileSync(path, 'utf8');
    if (!text.includes(find)) throw new Error(`${name}: src/${file} no longer has ${JSON.stringify(find)}: plant it anew`);
    if (!before.has(path)) before.set(path, text);
    writeFileSync(path, text.replaceAll(find, put));
  }
  return () => before.forEach((text, path) => writeFileSync(path, text));
}

async function searchBySeeds(mutant: Mutant, copy: string, seeds: number): Promise<Finding | null> {
  const restore = plant(mutant, copy);
  const run = ['--import', 'tsx', 'test/simulation/run.ts', '--seeds', String(seeds), '--until-failure', '--with', `${mutant.with ?? ''}`];
  const { status, stdout, stderr } = await new Promise<{ status: unknown; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, run, { cwd: copy }, (error, stdout, stderr) => resolve({ status: error?.code, stdout, stderr }));
  });
  restore();
  if (status === undefined) return null;
  if (status !== 1) throw new Error(`${mutant.name}: ${stderr}`);
  const [, seed, symptom = ''] = /^seed (\d+): (.*)/m.exec(stdout) ?? [];
  if (seed !== undefined) return { by: `seed ${seed}`, symptom };
  const [, what] = /^ +0 {2}(.*)/m.exec(stdout) ?? [];
  return { by: 'thousand', symptom: `a thousand seeds never reach: ${what}` };
}

async function searchInSmallWorlds(mutant: Mutant): Promise<Finding | null> {
  if (mutant.edits.some(({ file }) => !/^(ordering|events)\//.test(file))) return null;
  const core = await openCore(mutant);
  for (const scope of scopes) {
    const { breach } = explore(core, scope, mostStates);
    if (breach !== null) return { by: `${breach.trace.length} steps`, symptom: `${breach.symptom}, in ${scope.name}` };
  }
  return null;
}

/** What was found before and not looked for now stays. */
function keep(found: ReadonlyMap<string, string>): void {
  const text = readFileSync(readmePath, 'utf8');
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
  const kept = new Map(rowsOf(text));
  const rows = mutants.flatMap(({ name }) => {
    const by = found.get(name) ?? kept.get(name);
    return by === undefined ? [] : [`${by.padStart(10)}  ${name}\n`];
  });
  writeFileSync(readmePath, text.slice(0, from) + rows.join('') + text.slice(to));
}

/** Of the table of a README: the names of defects, and what found them. */
export function rowsOf(readme: string): readonly (readonly [name: string, by: string])[] {
  const table = readme.slice(readme.indexOf(begin) + begin.length, readme.indexOf(end));
  return [...table.matchAll(/^ *(\S.*?) {2}(.*)$/gm)].map(([, by = '', name = '']) => [name, by]);
}

function copySources(copy: string): void {
  for (const part of ['src', 'test/simulation', 'test/support', 'package.json', 'tsconfig.json'])
    cpSync(join(checkout, part), join(copy, part), { recursive: true });
  symlinkSync(join(checkout, 'node_modules'), join(copy, 'node_modules'), 'dir');
}

async function main(args: readonly string[]): Promise<boolean> {
  const { values, positionals } = parseArgs({ args: [...args], options: { seeds: { type: 'string' } }, allowPositionals: true });
  const seeds = Number(values.seeds ?? 20_000);
  const chosen = mutants.filter(({ name }) => name.includes(positionals[0] ?? ''));
  const left = [...chosen];
  const found = new Map<string, string>();
  const copies: string[] = [];
  const search = async () => {
    const copy = mkdtempSync(join(tmpdir(), 'mutants-'));
    copies.push(copy);
    copySources(copy);
    for (let mutant = left.shift(); mutant !== undefined; mutant = left.shift()) {
      const finding = (await searchBySeeds(mutant, copy, seeds)) ?? (await searchInSmallWorlds(mutant));
      process.stdout.write(`${(finding?.by ?? 'NOT FOUND').padStart(10)}  ${mutant.name}\n            ${finding?.symptom ?? ''}\n`);
      if (finding !== null) found.set(mutant.name, finding.by);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(availableParallelism(), chosen.length) }, search));
    process.stdout.write(`${chosen.length - found.size} of ${chosen.length} defects were not found by ${seeds} seeds\n`);
    return found.size === chosen.length;
  } finally {
    for (const copy of copies) rmSync(copy, { recursive: true, force: true });
    keep(found);
  }
}

if (process.argv[1] === import.meta.filename) process.exitCode = (await main(process.argv.slice(2))) ? 0 : 1;
