/** What a change of dead letters will do and what became of it, as the browser gets it. Pure. */
import type { ReplayOutcome } from '../dead-letters/replay-outcome.ts';
import {
  countLetters,
  type EntityReplay,
  type LettersOfEntity,
  type ReplayPlan,
  sequencesText,
  type Unmendable,
} from '../dead-letters/replay-plan.ts';
import { countMatched, type Survey } from '../dead-letters/survey.ts';
import { entityFields } from '../events/event.ts';

export type ChangePlan = { readonly action: 'replay'; readonly plan: ReplayPlan } | { readonly action: 'discard'; readonly survey: Survey };

export type ChangeOutcome =
  | ({ readonly action: 'replay'; readonly replayed: number; readonly left: number } & ReplayOutcome)
  | { readonly action: 'discard'; readonly discarded: number };

/** Entities that are listed; of the others only how many. */
const maxShown = 50;

/** How many letters it takes out of the queue. */
export function lettersOf(change: ChangePlan): number {
  return change.action === 'replay' ? countLetters(change.plan).replayable : countMatched(change.survey);
}

/** How many entities it concerns. */
export function entitiesOf(change: ChangePlan): number {
  return (change.action === 'replay' ? change.plan : change.survey).entities.length;
}

export function planFields(change: ChangePlan): object {
  const letters = lettersOf(change);
  if (change.action === 'discard') {
    const { entities, unordered } = change.survey;
    return {
      letters,
      blocked: 0,
      unordered: unordered.length,
      entity_count: entities.length,
      entities: entities.slice(0, maxShown).map(discardFields),
    };
  }
  const { entities, unordered } = change.plan;
  const { blocked } = countLetters(change.plan);
  // What is replayable comes first.
  const shown = [...entities].sort((a, b) => Number(b.letters.length > 0) - Number(a.letters.length > 0)).slice(0, maxShown);
  const unmendable = unmendableFields(change.plan.unmendable ?? []);
  return { letters, blocked, unordered: unordered.length, entity_count: entities.length, entities: shown.map(replayFields), ...unmendable };
}

/** How many a replay does not mend, and of the first of them why. */
function unmendableFields(unmendable: readonly Unmendable[]): object {
  if (unmendable.length === 0) return {};
  const shown = unmendable
    .slice(0, maxShown)
    .map(({ letter, why }) => ({ ...entityFields(letter), sequence: letter.sequence, reason: letter.reason, why }));
  return { unmendable_count: unmendable.length, unmendable: shown };
}

export function outcomeFields(outcome: ChangeOutcome): object {
  if (outcome.action === 'discard') return { discarded: outcome.discarded };
  const { replayed, left, entities } = outcome;
  const others = entities.filter(({ status }) => status !== 'recovered');
  return {
    replayed,
    left,
    entity_count: entities.length,
    recovered: entities.length - others.length,
    entities: others.slice(0, maxShown).map(({ replay, status, now, again }) => ({
      ...entityFields(replay.entity),
      status,
      version: now.version,
      parked: now.parked,
      again: again[0]?.reason ?? null,
    })),
    again: outcome.unordered.again.length,
    undecided: outcome.unordered.undecided,
  };
}

function replayFields({ entity, version, letters, blocked }: EntityReplay): object {
  const waits = blocked === null ? null : { sequences: sequencesText(blocked.letters), missing: blocked.missing, why: blocked.why };
  return { ...entityFields(entity), version, letters: letters.length, sequences: sequencesText(letters), blocked: waits };
}

function discardFields({ entity, matched }: LettersOfEntity): object {
  const inOrder = [...matched].sort((a, b) => (a.sequence ?? 0) - (b.sequence ?? 0));
  return { ...entityFields(entity), version: null, letters: matched.length, sequences: sequencesText(inOrder), blocked: null };
}
