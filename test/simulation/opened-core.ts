/**
 * The shipped core as a model checker needs it: its sequencers can be copied and compared. Its sources are loaded from a copy in which
 * the private fields have names that can be seen from outside (`#lanes` is `_lanes`) and nothing else differs, unless a defect is to be
 * planted in it.
 *
 * `dumpOf` writes all that a sequencer will ever decide from, and of that only what matters: times from now on, operations and deliveries
 * by their rank. Two sequencers with the same text behave in the same way. A field that holds a time and is not known here is an error.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { tsImport } from 'tsx/esm/api';
import { checkout } from '../support/checkout.ts';
import type { Mutant } from './planted-defects.ts';

type Sequencers = typeof import('../../src/ordering/sequencer.ts');
export type Rules = typeof import('../../src/ordering/entity-rules.ts');

export interface Core {
  readonly ShardSequencer: Sequencers['ShardSequencer'];
  readonly rules: Rules;
}

/** The folders that make the core, and what they import besides. */
const folders = ['.', 'events', 'ordering'];

/** @throws Error when the place of the defect is not in the sources. */
export async function openCore(mutant: Mutant | null = null): Promise<Core> {
  const folder = mkdtempSync(join(tmpdir(), 'opened-core-'));
  try {
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const missing = new Set(mutant?.edits);
    for (const path of folders.flatMap(sourcesIn)) {
      let text = readFileSync(join(checkout, 'src', path), 'utf8');
      for (const edit of missing) {
        if (path !== edit.file || !text.includes(edit.find)) continue;
        text = text.replaceAll(edit.find, edit.put);
        missing.delete(edit);
      }
      mkdirSync(join(folder, path, '..'), { recursive: true });
      writeFileSync(join(folder, path), text.replaceAll(/#(?=[a-z]\w*)/gi, '_'));
    }
    for (const { file, find } of missing)
      throw new Error(`${mutant?.name}: src/${file} no longer has ${JSON.stringify(find)}: plant it anew`);
    const load = (path: string) => tsImport(pathToFileURL(join(folder, path)).href, import.meta.url);
    const { ShardSequencer } = (await load('ordering/sequencer.ts')) as Sequencers;
    const rules = (await load('ordering/entity-rules.ts')) as Rules;
    freezeSharedValues(await load('ordering/lane.ts'), await load('ordering/holes.ts'));
    return { ShardSequencer, rules };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function sourcesIn(folder: string): string[] {
  return readdirSync(join(checkout, 'src', folder))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));
}

/** What all lanes share until they write something of their own. */
function freezeSharedValues({ Lane }: any, { Holes }: any): void {
  const { held, known } = new Lane({ entityType: '', entityId: '' }, null);
  Holes.none.toString();
  for (const shared of [known, Holes.none, held._slots, held._bySequence]) Object.freeze(shared);
}

/** A copy that shares only what is frozen. */
export function copyOf<T>(original: T): T {
  return copied(original, new Map()) as T;
}

function copied(value: any, made: Map<object, object>): unknown {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  const known = made.get(value);
  if (known !== undefined) return known;
  if (Array.isArray(value)) {
    const array: unknown[] = [];
    made.set(value, array);
    for (const item of value) array.push(copied(item, made));
    return array;
  }
  if (value instanceof Map) {
    const map = new Map();
    made.set(value, map);
    for (const [key, item] of value) map.set(copied(key, made), copied(item, made));
    return map;
  }
  if (value instanceof Set) {
    const set = new Set();
    made.set(value, set);
    for (const item of value) set.add(copied(item, made));
    return set;
  }
  const object = Object.create(Object.getPrototypeOf(value));
  made.set(value, object);
  for (const key of Object.keys(value)) object[key] = copied(value[key], made);
  return object;
}

export interface DumpOptions {
  /** Of a delivery, by its tag. */
  readonly nameOf: (tag: number) => string;
  /** Fields that nothing will be decided from any more. */
  readonly without: readonly string[];
}

export function dumpOf(sequencer: object, options: DumpOptions): string {
  return new Dump(sequencer, options).text;
}

/** Read only where the window or the memory may be full. */
export const forFullWindows: readonly string[] = ['_work', 'workSinceMs'];
/** Read only when the store proves unavailable. */
export const forOutages: readonly string[] = ['_answeredMs', '_answeredAtMs'];

/** Not decided from: what never changes, what is only counted up, what was handed out, and what is only said to people. */
const passedOver = new Set([
  '_limits',
  '_lastId',
  '_turn',
  '_text',
  '_effects',
  'effects',
  'detail',
  'stack',
  '_keyOf',
  '_bytesOf',
  '_maxBytes',
  '_runner',
  'at',
]);
const durations = new Set(['_graceMs', '_fillingMs', '_askedForMs', '_patienceMs']);
/** No pause of the store makes the clock wait for longer: ten times the longest grace. */
const longestAnsweredMs = 10_000;

class Dump {
  text = '';
  readonly #options: DumpOptions;
  readonly #nowMs: number;
  readonly #countedMs: number;
  readonly #workMs: number;
  readonly #clockRuns: boolean;
  /** Since when the oldest delivery of the lane that is being written is held. */
  #oldestMs = Number.POSITIVE_INFINITY;
  readonly #awake: ReadonlySet<unknown>;
  readonly #seen = new Map<object, number>();
  readonly #operations: readonly number[];

  constructor(sequencer: any, options: DumpOptions) {
    this.#options = options;
    this.#awake = new Set(sequencer._lanes._awake.values());
    this.#nowMs = sequencer._nowMs;
    this.#countedMs = sequencer._gaps.clock._countedMs;
    this.#clockRuns = sequencer._gaps.clock._runs;
    this.#workMs = sequencer._work._countedMs;
    this.#operations = [...sequencer._operations._underWay.keys()];
    this.#fields(sequencer);
  }

  #fields(object: any): void {
    for (const key of Object.keys(object)) this.#field(object, key);
  }

  #field(object: any, key: string): void {
    if (passedOver.has(key) || this.#options.without.includes(key)) return;
    const value = object[key];
    if (value === undefined || value === null) return;
    this.text += `${key}:`;
    if (typeof value === 'number') this.text += this.#number(object, key, value);
    else if (key === '_deadlines') this.#deadlines(value, this.#nowMs);
    else if (key === '_ends') this.#deadlines(value, this.#countedMs);
    else if (key === '_underWay') this.#items(value.values());
    else if (key === '_probe') this.text += [...value].map((op) => this.#operations.indexOf(op)).join();
    else this.#value(value);
    this.text += ' ';
  }

  #value(value: any): void {
    if (typeof value !== 'object' || value === null) {
      this.text += String(value);
      return;
    }
    if ('tag' in value) {
      this.text += this.#options.nameOf(value.tag);
      return;
    }
    const seen = this.#seen.get(value);
    if (seen !== undefined) {
      this.text += `@${seen}`;
      return;
    }
    this.#seen.set(value, this.#seen.size);
    if (Array.isArray(value) || value instanceof Set) this.#items(value);
    else if (value instanceof Map) this.#map(value);
    else if ('_intervals' in value) this.text += `"${value.toString()}"`;
    else if ('_bySequence' in value) this.#held(value);
    else if ('entityId' in value) this.text += value.entityId;
    else if ('lookingUp' in value) this.#lane(value);
    else this.#object(value);
  }

  #object(value: object): void {
    this.text += '{';
    this.#fields(value);
    this.text += '}';
  }

  #items(items: Iterable<unknown>): void {
    this.text += '[';
    for (const item of items) {
      this.#value(item);
      this.text += ' ';
    }
    this.text += ']';
  }

  #map(map: Map<unknown, unknown>): void {
    this.text += '<';
    for (const [key, value] of map) {
      this.#value(key);
      this.text += '=';
      this.#value(value);
      this.text += ' ';
    }
    this.text += '>';
  }

  #lane(lane: any): void {
    this.#oldestMs = Math.min(...[...lane.held._slots.values()].map(({ sinceMs }) => sinceMs));
    this.#object(lane);
    this.#oldestMs = Number.POSITIVE_INFINITY;
  }

  /** Its indexes say the same again. */
  #held({ _slots }: any): void {
    for (const { sequence, sinceMs, copies } of _slots.values()) {
      this.text += `${sequence}/${this.#countedMs - sinceMs}`;
      this.#items(copies);
    }
  }

  /** That of a lane which is at rest brings about nothing but a look at the clock. */
  #deadlines({ _heap, _earliest }: any, nowMs: number): void {
    for (const { atMs, item } of _heap._items) {
      this.text += `${atMs - nowMs}/`;
      if (this.#awake.has(item) && _earliest.get(item) === atMs) this.#value(item);
    }
  }

  #number(object: any, key: string, value: number): string | number {
    if (key === 'op' || key === 'id') return this.#operations.indexOf(value);
    if (!key.endsWith('Ms') || durations.has(key)) return value;
    switch (key) {
      case '_pausedUntilMs':
        return value - this.#nowMs;
      case 'nextReadMs':
        return Math.max(0, value - this.#nowMs);
      case '_stoodSinceMs':
        return this.#clockRuns ? '' : Math.min(longestAnsweredMs, this.#nowMs - value);
      case '_answeredAtMs':
        return Math.min(longestAnsweredMs, this.#nowMs - value);
      case '_answeredMs':
        return this.#countedMs - value;
      case 'heldFromMs':
        return value <= Math.min(this.#oldestMs, this.#countedMs) ? '' : this.#countedMs - value;
      case 'workSinceMs':
      case '_fromMs':
        return this.#workMs - value;
      // What the others are counted from.
      case '_nowMs':
      case '_countedMs':
        return '';
      default:
        throw new Error(`${object.constructor.name} has a time, ${key}: say here from when on it counts`);
    }
  }
}
