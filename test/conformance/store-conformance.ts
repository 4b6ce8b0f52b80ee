/**
 * What every store does. `describeStore` runs the whole suite against one implementation; a store that passes it may
 * stand behind the worker.
 */
import { describe, it, type TestContext } from 'node:test';
import type { EntityRef } from '../../src/events/event.ts';
import type { Store, StoreOptions } from '../../src/stores/store.ts';
import { commitCases } from './commit-cases.ts';
import { deadLetterCases } from './dead-letter-cases.ts';
import { firstSequenceCases } from './first-sequence-cases.ts';
import { hostileNameCases } from './hostile-name-cases.ts';
import { idCases } from './id-cases.ts';
import { loadCases } from './load-cases.ts';
import { logCases } from './log-cases.ts';
import { ownershipCases } from './ownership-cases.ts';
import { replayCases } from './replay-cases.ts';
import { streamStateCases } from './stream-state-cases.ts';
import { unusableEntityCases } from './unusable-entity-cases.ts';

/** One test's access to the implementation. */
export interface StoreHarness {
  /** A store on an empty stream of its own, or on the stream that is named. It is closed after the test. */
  open(options?: Partial<StoreOptions>): Promise<Store>;
  /** Lets a moment pass by the store's clock. */
  passTime(): Promise<void>;
  /** The time of the store's clock, or near it: milliseconds since 1970. */
  nowMs(): number;
  /** Puts this JSON where the stream's layout is on record; null where nobody else writes. */
  readonly plantLayout: ((stream: string, json: string) => Promise<unknown>) | null;
  /** Puts something under one of the entity's keys that Inorder cannot have written; null where that is impossible. */
  readonly spoil: ((stream: string, entity: EntityRef, key: 'entity' | 'ids' | 'dead') => Promise<void>) | null;
}

export type OpenHarness = (t: TestContext) => Promise<StoreHarness>;

/** A case: a sentence, and what shows that it is true. */
export type Cases = Readonly<Record<string, (harness: StoreHarness, t: TestContext) => Promise<void>>>;

/** `skip` says why the suite cannot run here. */
export function describeStore(name: string, openHarness: OpenHarness, { skip = false }: { readonly skip?: string | boolean } = {}): void {
  const groups: Readonly<Record<string, Cases>> = {
    'what is loaded': loadCases,
    'a commit': commitCases,
    'ids and what is remembered': idCases,
    'claims, parks and epochs': ownershipCases,
    'identity, layout, halts and their end': streamStateCases,
    'the log of an entity': logCases,
    'dead letters': deadLetterCases,
    'replays and the audit trail': replayCases,
    'a stream that counts from 0': firstSequenceCases,
    'hostile names': hostileNameCases,
    'an entity whose keys are unusable': unusableEntityCases,
  };
  for (const [group, cases] of Object.entries(groups)) {
    describe(`${name}: ${group}`, { skip }, () => {
      for (const [sentence, run] of Object.entries(cases)) {
        it(sentence, async (t) => run(await openHarness(t), t));
      }
    });
  }
}

const passingMoments = 1_000;

/** Lets time pass until the condition holds. */
export async function whenTimePasses(harness: StoreHarness, what: string, condition: () => Promise<boolean>): Promise<void> {
  for (let moment = 0; moment < passingMoments; moment += 1) {
    if (await condition()) return;
    await harness.passTime();
  }
  throw new Error(`time passed, but not so that ${what}`);
}
