/**
 * What reads foreign input, given as much of it as wanted:
 *
 *   npm run fuzz -- [--inputs N] [--target NAME,…] [--seed S]
 *   npm run fuzz -- --target NAME --input JSON
 *
 * Says first what it runs, and of each target how many inputs it took, how many different outcomes there were, the most processor time
 * that one of them needed, and how much the heap grew. The first input that fails is cut down and printed as the command that shows
 * it. Exits with 1 if one failed.
 */
import { parseArgs } from 'node:util';
import { shellWord } from '../../src/publishing/field-map.ts';
import { type Failure, fuzz, type Input, symptomOf } from './fuzz-engine.ts';
import { type TargetName, targetNames, targetsOf } from './fuzz-targets.ts';

const maxCpuMs = 50;
const defaultInputs = 100_000;

interface Request {
  readonly inputs: number;
  readonly seed: number;
  readonly targets: readonly TargetName[];
  /** This one alone. */
  readonly input: Input | null;
}

function requestOf(args: readonly string[]): Request {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({ args: [...args], options: { inputs: text, seed: text, target: text, input: text } });
  const count = (name: 'inputs' | 'seed', otherwise: number) => {
    const given = values[name];
    if (given !== undefined && !/^\d{1,10}$/.test(given)) throw new Error(`--${name} is ${given}: give a whole number`);
    return given === undefined ? otherwise : Number(given);
  };
  const asked = values.target?.split(',') ?? targetNames;
  const targets = targetNames.filter((name) => asked.includes(name));
  if (targets.length < asked.length) throw new Error(`--target ${values.target}: give some of ${targetNames.join(', ')}`);
  const input: unknown = values.input === undefined ? null : JSON.parse(values.input);
  const isInput = input === null || (Array.isArray(input) && input.every((part) => typeof part === 'string'));
  if (!isInput || (input !== null && targets.length !== 1)) throw new Error('--input is a JSON array of texts, for one --target');
  return { inputs: count('inputs', defaultInputs), seed: count('seed', 1), targets, input };
}

function commandOf(target: TargetName, { input }: Failure): string {
  const ascii = JSON.stringify(input).replace(/[^ -~]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return `npm run fuzz -- --target ${target} --input ${shellWord(ascii)}`;
}

/** Returns whether all went well. */
async function run({ inputs, seed, targets, input }: Request, say: (line: string) => void): Promise<boolean> {
  const all = targetsOf();
  if (input !== null) {
    const symptom = await symptomOf(all[targets[0]!], input, maxCpuMs);
    say(symptom === null ? 'nothing is wrong with what came of it' : symptom);
    return symptom === null;
  }
  say(`${inputs.toLocaleString('en')} inputs each of ${targets.join(', ')}; seed ${seed}`);
  let isWell = true;
  for (const name of targets) {
    const startedMs = performance.now();
    const { failure, inputs: ran, outcomes, slowestMs, grownBytes } = await fuzz(all[name], { inputs, seed, maxCpuMs });
    const perSecond = (ran * 1_000) / (performance.now() - startedMs);
    say(
      `${name.padEnd(12)} ${ran.toLocaleString('en').padStart(9)} inputs, ${String(outcomes).padStart(3)} outcomes, at most ${slowestMs.toFixed(1)} ms each, ` +
        `the heap grew by ${(grownBytes / 2 ** 20).toFixed(1)} MiB; ${Math.round(perSecond).toLocaleString('en')} a second`,
    );
    if (failure === null) continue;
    isWell = false;
    say(`${name}: ${failure.symptom}\n  ${commandOf(name, failure)}`);
  }
  return isWell;
}

try {
  const isWell = await run(requestOf(process.argv.slice(2)), (line) => void process.stdout.write(`${line}\n`));
  process.exitCode = isWell ? 0 : 1;
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 2;
}
