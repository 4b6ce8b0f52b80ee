/**
 * The rules of the house as functions from sources to problems, so that they are a test and not a wish. Each
 * takes what it judges and returns a sentence for each breach; test/unit/house-rules.test.ts runs them over
 * the tree and shows of each that it can fail. They read text line by line, which the house's formatting allows.
 */
import { dirname, join } from 'node:path/posix';

export interface Source {
  /** From the root of the repository, with slashes: `src/ordering/heap.ts`. */
  readonly path: string;
  readonly text: string;
}

export const minFileLines = 80;
export const maxFileLines = 500;
export const maxFunctionLines = 70;
export const maxCommentWidth = 140;

const pure = ['events', 'ordering', 'detection', 'aggregates'];

/** Where things are reached: each may use what is pure, what is configured and what is observed. */
const outside = [...pure, 'config', 'observability'];
const domain = ['stores', 'rabbitmq', 'idempotency', 'event-sourcing', 'dead-letters', 'publishing'];

/** What belongs to no folder, for every folder uses it. */
const common: ReadonlySet<string> = new Set(['errors', 'finding', 'printable', 'time', 'tls'].map((name) => `src/${name}.ts`));

/** Folder of `src` → the folders that it may import; itself and what is common always. */
const arrows: Readonly<Record<string, readonly string[]>> = {
  events: [],
  ordering: ['events'],
  detection: ['events'],
  aggregates: ['events', 'ordering'],
  config: pure,
  observability: [...pure, 'config'],
  stores: outside,
  rabbitmq: outside,
  idempotency: [...outside, 'stores'],
  'event-sourcing': [...outside, 'stores', 'rabbitmq'],
  'dead-letters': [...outside, 'stores', 'rabbitmq', 'publishing', 'event-sourcing'],
  publishing: [...outside, 'rabbitmq'],
  worker: [...outside, ...domain],
  console: [...outside, ...domain],
  cli: [...outside, ...domain, 'worker', 'console'],
};

/** Modules without I/O, clock or randomness of their own that pure folders may use. */
const pureModules = ['node:crypto', 'node:buffer', 'node:zlib', 'cloudevents', '@standard-schema/spec'];

/** Imports run along the arrows of the design. */
export function brokenArrows({ path, text }: Source): string[] {
  const folder = folderOf(path);
  if (folder === null) return [];
  const allowed = arrows[folder];
  if (allowed === undefined) return [`${path}: the folder ${folder} has no place in the design`];
  return importsOf(text).flatMap((module) => {
    if (!module.startsWith('.')) {
      const refused = pure.includes(folder) && !pureModules.includes(module);
      return refused ? [`${path}: a pure folder must not import ${module}`] : [];
    }
    const target = join(dirname(path), module);
    // It looks first whether the demo is there, which the package has not.
    if (path === 'src/cli/demo.ts' && target === 'deploy/demo/demo.ts') return [];
    if (!target.startsWith('src/')) return [`${path}: src must not import ${target}`];
    const targetFolder = folderOf(target);
    if (targetFolder === null) return common.has(target) ? [] : [`${path}: nothing imports ${target}`];
    return targetFolder === folder || allowed.includes(targetFolder) ? [] : [`${path}: ${folder} must not import ${targetFolder}`];
  });
}

/** Files that no other one imports, directly or as a type. */
export function orphans(sources: readonly Source[], entryPoints: readonly string[]): string[] {
  const imported = new Set<string>(entryPoints);
  for (const { path, text } of sources) {
    for (const module of importsOf(text)) if (module.startsWith('.')) imported.add(join(dirname(path), module));
  }
  return sources.filter(({ path }) => !imported.has(path)).map(({ path }) => `${path}: nobody imports it`);
}

export function tooLong({ path, text }: Source): string[] {
  const lines = text.trimEnd().split('\n');
  const problems = lines.length > maxFileLines ? [`${path}: ${lines.length} lines, at most ${maxFileLines}`] : [];
  for (const [index, line] of lines.entries()) {
    if (!opensFunction(line)) continue;
    const indent = /^ */.exec(line)![0];
    const end = lines.findIndex((other, at) => at > index && other.startsWith(`${indent}}`));
    const length = end - index + 1;
    if (end !== -1 && length > maxFunctionLines) {
      problems.push(`${path}:${index + 1}: a function of ${length} lines, at most ${maxFunctionLines}`);
    }
  }
  return problems;
}

/** What is no concept that other code could join, with the reason. */
export const mayBeShort: Readonly<Record<string, string>> = {
  'src/main.ts': 'the entry point: it composes, and nothing may import it',
  'src/cli/demo.ts': 'the one command that the npm package lacks',
  'src/console/page/vendor/htm.d.ts': 'the types of a file of somebody else are found by its name',
  'src/console/page/vendor/preact.d.ts': 'the types of a file of somebody else are found by its name',
};

/** A sliver of a concept: it belongs into the file that it serves. */
export function tooShort({ path, text }: Source): string[] {
  const lines = text.trimEnd().split('\n').length;
  const isShort = lines < minFileLines && !Object.hasOwn(mayBeShort, path);
  return isShort ? [`${path}: ${lines} lines, at least ${minFileLines}: it belongs to the concept that it serves`] : [];
}

/** The last line of a function's signature: it ends in the brace that the body's last line closes. */
function opensFunction(line: string): boolean {
  const code = line.trim();
  if (!code.endsWith('{') || /^(\} )?(if|else|for|while|switch|try|catch|do)\b/.test(code)) return false;
  return /\bfunction\b|=> \{$|^(async |static |get |set |\*|#)*[\w$]*\(.*\).*\{$|^\).*\{$/.test(code);
}

/** The formatter wraps code and leaves comments as they are. */
export function wideComments({ path, text }: Source): string[] {
  return text.split('\n').flatMap((line, index) => {
    const isTooWide = line.length > maxCommentWidth && /^\s*(\/?\*|\/\/|--)/.test(line);
    return isTooWide ? [`${path}:${index + 1}: a comment of ${line.length} characters, at most ${maxCommentWidth}`] : [];
  });
}

/** Prose is as wide as comments are; tables and blocks of code are as wide as what they show. */
export function wideProse({ path, text }: Source): string[] {
  const prose = text.replaceAll(/^( *)```[\s\S]*?^\1```/gm, (block) => block.replaceAll(/.+/g, ''));
  return prose.split('\n').flatMap((line, index) => {
    const isTooWide = line.length > maxCommentWidth && !/^\s*\|/.test(line);
    return isTooWide ? [`${path}:${index + 1}: a line of ${line.length} characters, at most ${maxCommentWidth}`] : [];
  });
}

export function forbiddenName({ path }: Source): string[] {
  const name = /(?:^|\/)(utils?|helpers?|commons?|types?|misc|shared|lib)(?:\.[a-z.]+|\/)/.exec(path)?.[1];
  return name === undefined ? [] : [`${path}: ${name} names no concept of the domain`];
}

const forbiddenEverywhere: readonly (readonly [RegExp, string])[] = [
  [/^export \* /, '`export *` makes everything public'],
  [/\b(TODO|FIXME|XXX)\b/, 'a promise instead of work'],
  [/^\s*(export )?const [A-Z][A-Z0-9_]+\b/, 'a constant is named like everything else'],
];

const forbiddenInSrc: readonly (readonly [RegExp, string])[] = [
  [/\bconsole\.(?!ts')/, 'the log or the command writes, not the console'],
  [/\bfrom '\.[^']*(?<!\.ts)'/, 'relative imports end with .ts'],
  [/\bcause: \w+\.message\b/, 'what is logged of an error may be anybody’s: messageOf bounds it and takes out secrets'],
];

/** A test with a time limit of its own fails on a busy machine; the runner has one for what never ends, and `waitFor` waits long enough. */
export function ownTimeLimits({ path, text }: Source): string[] {
  const limited = /\b(test|it|describe)\(.*[{ ]timeout:|^\s*\{.*\btimeout: [\d_]+.*\},$|\bwaitUntil\(/;
  return text.split('\n').flatMap((line, index) => (limited.test(line) ? [`${path}:${index + 1}: a time limit of its own`] : []));
}

/** What cannot be run again to the same outcome. */
const ambient: readonly (readonly [RegExp, string])[] = [
  [/\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\.|\bhrtime\b/, 'only src/time.ts asks for the time'],
  [/\bMath\.random\b|\brandom(UUID|Bytes|Int)\b|\bgetRandomValues\b/, 'only src/time.ts asks for chance'],
  [/\bset(Timeout|Interval|Immediate)\b|\btimers\/promises\b|\bAbortSignal\.timeout\b/, 'only src/time.ts sets timers'],
];

/**
 * Where the computer's clock is handed in: at the top, and where a program of somebody else may leave it out. A secret, which
 * must not be guessed, would need an exception from `ambient` with its reason; src draws none.
 */
const handsInTheClock: ReadonlySet<string> = new Set([
  'src/time.ts',
  'src/main.ts',
  'src/index.ts',
  'src/worker/worker.ts',
  // Threads have a top of their own.
  'src/worker/block-watch.ts',
  'src/worker/isolation.ts',
  'src/publishing/create-publisher.ts',
  'src/console/console.ts',
  'src/observability/log.ts',
  'src/dead-letters/dead-letters.ts',
  'src/idempotency/idempotent.ts',
  'src/event-sourcing/repository.ts',
  'src/event-sourcing/aggregate-root.ts',
  'src/stores/append-rules.ts',
  'src/stores/memory/memory-store.ts',
  'src/stores/idempotency-store.ts',
  'src/stores/redis/redis-store.ts',
  'src/stores/redis/redis-event-store.ts',
  'src/stores/redis/idempotency-store.ts',
  'src/stores/postgres/postgres-store.ts',
  'src/stores/postgres/postgres-event-store.ts',
]);
const systemClock = [/\bsystemTime\b/, 'the clock is handed in from the top'] as const;

const forbiddenInPureFolders: readonly (readonly [RegExp, string])[] = [
  [/\bqueueMicrotask\b/, 'a pure folder waits for nothing'],
  [/\bprocess\./, 'a pure folder does not know its process'],
];

export function forbiddenText({ path, text }: Source): string[] {
  // What the browser gets is loaded as it is written.
  const inSrc = path.startsWith('src/') && !path.endsWith('.js');
  const rules = [
    ...forbiddenEverywhere,
    ...(inSrc ? forbiddenInSrc : []),
    ...(inSrc && path !== 'src/time.ts' ? ambient : []),
    ...(inSrc && !handsInTheClock.has(path) ? [systemClock] : []),
    ...(inSrc && pure.includes(folderOf(path) ?? '') ? forbiddenInPureFolders : []),
  ];
  return text.split('\n').flatMap((line, index) => {
    // Promises hide in comments; what code must not do may be talked about there.
    const code = /^\s*(\/?\*|\/\/)/.test(line) ? '' : line.replace(/ \/\/ .*$/, '');
    return rules
      .filter(([pattern, why]) => pattern.test(why === 'a promise instead of work' ? line : code))
      .map(([, why]) => `${path}:${index + 1}: ${why}`);
  });
}

/** Every source begins by saying what it guarantees and what it leaves to others. */
export function missingHeader({ path, text }: Source): string[] {
  const body = text.replace(/^#!.*\n/, '');
  if (path.endsWith('.lua')) {
    const header = /^(?:--.*\n)+/.exec(body)?.[0] ?? '';
    const missing = ['KEYS', 'ARGV', 'returns'].filter((word) => !new RegExp(`\\b${word}\\b`, 'i').test(header));
    return missing.length === 0 ? [] : [`${path}: the header does not say ${missing.join(', ')}`];
  }
  const header = /^\/\*\*([\s\S]*?)\*\//.exec(body)?.[1] ?? '';
  return header.replace(/[\s*]/g, '').length >= 20 ? [] : [`${path}: there is no header`];
}

/** What a file imports, also types and also at run time; modules as they are written. */
export function importsOf(text: string): string[] {
  const fixed = [...text.matchAll(/^(?:import|export)\s(?:[^;'"]*?\sfrom\s+)?'([^']+)'/gm)];
  const dynamic = [...text.matchAll(/\bimport\('([^']+)'\)/g)];
  return [...fixed, ...dynamic].map(([, module]) => module!);
}

/** `src/ordering/heap.ts` → `ordering`; null for files directly in `src` and outside of it. */
function folderOf(path: string): string | null {
  return /^src\/([^/]+)\//.exec(path)?.[1] ?? null;
}
