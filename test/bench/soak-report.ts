/**
 * What a soak has seen, as a table, and what of it is wrong: pure, so that a test can show each of its sentences.
 */
import type { Holdings } from '../support/process-probe.ts';
import type { Figures, ServicesMemory } from './soak-stage.ts';

export interface Sample {
  readonly atMs: number;
  readonly published: number;
  readonly ready: number;
  readonly figures: Figures;
  readonly holdings: Holdings;
  readonly memory: ServicesMemory;
}

const mib = 2 ** 20;
const shown = (value: number | null) => (value === null ? '?' : Math.round(value).toLocaleString('en'));

const columns: readonly (readonly [title: string, of: (sample: Sample) => number | null])[] = [
  ['seconds', ({ atMs }) => atMs / 1_000],
  ['published', ({ published }) => published],
  ['ended', ({ figures }) => figures.ended],
  ['ready', ({ ready }) => ready],
  ['gaps', ({ figures }) => figures.openGaps],
  ['heap MiB', ({ holdings }) => holdings.heapBytes / mib],
  ['buffers', ({ holdings }) => holdings.bufferBytes / mib],
  ['resident', ({ holdings }) => holdings.residentBytes / mib],
  ['files', ({ holdings }) => holdings.descriptors],
  ['sockets', ({ holdings }) => holdings.sockets],
  ['emitters', ({ holdings }) => holdings.emitters],
  ['listeners', ({ holdings }) => holdings.listeners],
  ['timers', ({ holdings }) => holdings.timers],
  ['broker MiB', ({ memory }) => memory.broker],
  ['store MiB', ({ memory }) => memory.store],
];

const width = (title: string) => Math.max(title.length, 10);

export const tableHead = columns.map(([title]) => title.padStart(width(title))).join(' ');

export function tableRow(sample: Sample): string {
  return columns.map(([title, of]) => shown(of(sample)).padStart(width(title))).join(' ');
}

/** What has a fixed number once nothing is under way. */
const counted = ['descriptors', 'sockets', 'emitters', 'listeners', 'timers'] as const;
/** The heap moves by as much between two looks, and caches that were not full may fill. */
const heapLeeway = 0.1;
/** What the allocator has taken from the system it gives back late, or never. */
const residentLeeway = 0.15;
const leastLeewayBytes = 8 * mib;

/** What of `rest` is more than it was before, at rest as well. Empty when all is back. */
export function notBack(base: Holdings, rest: Holdings): string[] {
  const more = counted.filter((what) => rest[what] > base[what]).map((what) => `${rest[what] - base[what]} more ${what} than before`);
  const before = base.heapBytes + base.bufferBytes;
  const after = rest.heapBytes + rest.bufferBytes;
  if (after > before + Math.max(before * heapLeeway, leastLeewayBytes))
    more.push(`${shown(after / mib)} MiB of heap and buffers at rest, and ${shown(before / mib)} before`);
  return more;
}

/**
 * What went on growing while the load stayed the same: the least of the last third of the samples beside the most of the first third,
 * so that neither a peak nor a quiet moment counts as growth.
 */
export function grown(samples: readonly Sample[]): string[] {
  const third = Math.floor(samples.length / 3);
  if (third < 2) return [];
  const amounts: readonly (readonly [what: string, of: (sample: Sample) => number, leeway: number])[] = [
    ['heap and buffers', ({ holdings }) => holdings.heapBytes + holdings.bufferBytes, heapLeeway],
    ['resident memory', ({ holdings }) => holdings.residentBytes, residentLeeway],
    ['listeners', ({ holdings }) => holdings.listeners, heapLeeway],
    ['timers', ({ holdings }) => holdings.timers, heapLeeway],
    ['descriptors', ({ holdings }) => holdings.descriptors, heapLeeway],
  ];
  return amounts.flatMap(([what, of, leeway]) => {
    const first = Math.max(...samples.slice(0, third).map(of));
    const last = Math.min(...samples.slice(-third).map(of));
    return last > first * (1 + leeway)
      ? [`${what} grew: at most ${shown(first)} in the first third, at least ${shown(last)} in the last`]
      : [];
  });
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
