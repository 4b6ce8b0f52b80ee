/**
 * `npm run test:mutants -- [WORD]`: plants one defect after the other in a copy of the sources and lets the simulation look for it. Each
 * has to be found by so many seeds. A defect whose text is no longer in its file is an error: it is to be planted anew. With a word only
 * those that have it in their names.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkout } from '../support/checkout.ts';
import { type Mutant, mutants } from './planted-defects.ts';

/** One that is not found by so many is not found. */
const seeds = 1_000;

function plant({ name, file, find, put }: Mutant, copy: string): () => void {
  const path = join(copy, 'src', file);
  const text = readFileSync(path, 'utf8');
  if (!text.includes(find)) throw new Error(`${name}: src/${file} no longer has ${JSON.stringify(find)}: plant it anew`);
  writeFileSync(path, text.replaceAll(find, put));
  return () => writeFileSync(path, text);
}

function main(word: string): boolean {
  const copy = mkdtempSync(join(tmpdir(), 'mutants-'));
  try {
    for (const part of ['src', 'test/simulation', 'test/support', 'package.json', 'tsconfig.json'])
      cpSync(join(checkout, part), join(copy, part), { recursive: true });
    symlinkSync(join(checkout, 'node_modules'), join(copy, 'node_modules'), 'dir');
    let missed = 0;
    const chosen = mutants.filter(({ name }) => name.includes(word));
    for (const mutant of chosen) {
      const restore = plant(mutant, copy);
      const run = ['--import', 'tsx', 'test/simulation/run.ts', '--seeds', String(seeds), '--until-failure'];
      const { status, stdout, stderr } = spawnSync(process.execPath, run, { cwd: copy, encoding: 'utf8' });
      restore();
      const [symptom] = /^seed .*/m.exec(stdout) ?? [status === 1 ? 'something is never reached' : 'NOT FOUND'];
      if (status !== 1) missed++;
      process.stdout.write(`${mutant.name}\n    ${symptom.slice(0, 160)}\n${status === 0 || status === 1 ? '' : stderr}`);
    }
    process.stdout.write(`${missed} of ${chosen.length} defects were not found by ${seeds} seeds\n`);
    return missed === 0;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

process.exitCode = main(process.argv[2] ?? '') ? 0 : 1;
