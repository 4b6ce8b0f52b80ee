/** The demo's output: one step per line while it runs, then the accounts, the dead letters and what to do with them. */
import type { DeadLetter } from '../../src/dead-letters/dead-letter.ts';
import { printable } from '../../src/printable.ts';
import { systemTime } from '../../src/time.ts';
import type { Ledger } from './ledger.ts';
import type { Faults } from './faults.ts';
import type { Observation } from './workers.ts';

const labelWidth = 14;
const barWidth = 24;
const redrawMs = 100;
const clearLine = '\r\u001b[K';

/** Lines that stay, and on a terminal one line below them that moves. */
export class Screen {
  readonly #write: (text: string) => void;
  readonly #isTTY: boolean;
  #moving = '';
  #drawnMs = Number.NEGATIVE_INFINITY;

  constructor(write: (text: string) => void, isTTY: boolean) {
    this.#write = write;
    this.#isTTY = isTTY;
  }

  print(text: string): void {
    this.#write(this.#moving === '' ? text : `${clearLine}${text}${this.#moving}`);
  }

  /** Replaced by the next one; nothing where there is no terminal. */
  progress(line: string): void {
    if (!this.#isTTY) return;
    const nowMs = systemTime.nowMs();
    if (line !== '' && nowMs - this.#drawnMs < redrawMs) return;
    this.#drawnMs = line === '' ? Number.NEGATIVE_INFINITY : nowMs;
    if (line === this.#moving) return;
    this.#moving = line;
    this.#write(`${clearLine}${line}`);
  }
}

export function step(label: string, text: string): string {
  return `  ${label.padEnd(labelWidth)}${text}\n`;
}

export function progressLine(done: number, total: number, { settled, held }: Pick<Observation, 'settled' | 'held'>): string {
  const share = total === 0 ? 1 : Math.min(1, settled / total);
  const filled = Math.round(share * barWidth);
  const bar = `${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}`;
  return `  ${bar} ${percent(share).padStart(4)}   published ${number(done)}   settled ${number(settled)}   held ${number(held)}`;
}

export function renderLedger(ledger: Ledger, { heldAtMost, violations }: Observation): string {
  const rows: (readonly [string, number, string])[] = [
    ['published', ledger.confirmed, 'confirmed by the broker'],
    ['  applied', ledger.applied, 'the versions in the store, added up'],
    ['  duplicates', ledger.duplicates, 'the rest; as many as were published twice and applied'],
    ['  dead-lettered', ledger.deadLettered, 'messages in the dead-letter queue'],
    ...[...ledger.byReason].sort(([, a], [, b]) => b - a).map(([reason, count]) => [`    ${reason}`, count, ''] as const),
    ['  skipped', 0, 'nothing is, unless an operator chooses so'],
    ['held at most', heldAtMost, 'seen 20 times a second at the workers'],
    ['violations', violations, 'events before their predecessor; at least, for one worker was killed'],
  ];
  const lines = rows.map(([label, count, note]) => `  ${label.padEnd(22)}${number(count).padStart(8)}   ${note}`.trimEnd());
  const verdict = `  ${'orders as computed'.padEnd(22)}${number(ledger.ordersRight).padStart(8)}   of ${number(ledger.orders)}, state by state, from what was published`;
  return `${[...lines, verdict].join('\n')}\n`;
}

/** One line for each entity and reason. */
export function renderDeadLetters(letters: readonly DeadLetter[], { lost }: Faults): string {
  const groups = new Map<string, DeadLetter[]>();
  for (const letter of letters) {
    const key = `${entityOf(letter)}/${letter.reason}`;
    groups.set(key, [...(groups.get(key) ?? []), letter]);
  }
  const lines = [...groups.values()].map((group) => groupLine(group, lost)).sort((a, b) => a.localeCompare(b));
  return `  ${'entity'.padEnd(14)}${'reason'.padEnd(16)}count   ${'sequences'.padEnd(10)}  why\n${lines.map((line) => `${line}\n`).join('')}`;
}

function groupLine(group: readonly DeadLetter[], lost: Faults['lost']): string {
  const [first] = group;
  if (first === undefined) return '';
  const entity = entityOf(first);
  const missing = lost.find(({ orderId }) => orderId === entity);
  const why = missing === undefined ? first.detail : `${missing.sequence} was lost`;
  const sequences = rangeOf(group.flatMap(({ sequence }) => sequence ?? []));
  return `  ${entity.padEnd(14)}${first.reason.padEnd(16)}${String(group.length).padStart(5)}   ${sequences.padEnd(10)}  ${printable(why)}`;
}

/** A message that is no event names no entity; its routing key is the id of the one that it was meant for. */
function entityOf({ entityId, message }: DeadLetter): string {
  return entityId ?? printable(message.routingKey);
}

export function number(value: number): string {
  return value.toLocaleString('en-US');
}

/** `5-9, 11`: each once, in order. */
function rangeOf(sequences: readonly number[]): string {
  const sorted = [...new Set(sequences)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let at = 0; at < sorted.length; ) {
    let end = at;
    while (sorted[end + 1] === (sorted[end] ?? 0) + 1) end++;
    parts.push(end === at ? `${sorted[at]}` : `${sorted[at]}-${sorted[end]}`);
    at = end + 1;
  }
  return parts.join(', ') || '-';
}

function percent(share: number): string {
  return `${Math.floor(share * 100)} %`;
}

/** The stream is removed with the stage: nothing said here may ask for it. */
export function farewell(problems: readonly string[], durationMs: number): string {
  const seconds = (durationMs / 1_000).toFixed(1);
  const verdict =
    problems.length === 0
      ? `Everything balances: published = applied + duplicates + dead-lettered, in ${seconds} s.`
      : `This does NOT balance:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`;
  return [
    'The demo removes its stream. In one of yours, once a lost event has been published, this replays its successors in order:',
    '',
    '  inorder dead-letters replay --entity ID',
    '',
    verdict,
    '',
  ].join('\n');
}
