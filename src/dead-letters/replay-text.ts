/** A replay's plan and its outcome, for people and as JSON, one object per entity. */
import { grouped } from '../publishing/progress-line.ts';
import { printable, printableJson } from './printable.ts';
import { sequencesText } from './sequences-text.ts';
import type { ReplayReport } from './replay.ts';
import type { EntityOutcome } from './replay-outcome.ts';
import { countLetters, type EntityReplay, type ReplayPlan } from './replay-plan.ts';

/** Entities that are told one by one; of the others only how many. */
const maxShown = 50;

export function asPlanText(plan: ReplayPlan): string {
  const { going, blocked } = countLetters(plan);
  if (going + blocked === 0) return 'no dead letter is meant by this\n';
  const shown = plan.entities.slice(0, maxShown).map(planLine);
  if (plan.entities.length > maxShown) shown.push(`  and ${grouped(plan.entities.length - maxShown)} more entities\n`);
  const unordered = plan.unordered.length === 0 ? '' : `  ${grouped(plan.unordered.length)} without an entity or a sequence that can be read: decided anew\n`;
  const stays = blocked === 0 ? '' : `, ${grouped(blocked)} stay: replay them when what they wait for has arrived`;
  return `${shown.join('')}${unordered}${grouped(going)} go${stays}\n`;
}

export function asPlanJson(plan: ReplayPlan): string {
  const lines = plan.entities.map(({ entity, version, parked, letters, fetched, blocked }) => ({
    ...fieldsOf(entity),
    version,
    parked,
    replay: letters.map(({ sequence }) => sequence),
    fetched: fetched.map(({ event }) => event.sequence),
    blocked: blocked === null ? null : { sequences: blocked.letters.map(({ sequence }) => sequence), missing: blocked.missing, why: blocked.why },
  }));
  const unordered = plan.unordered.map(({ messageId, entityType, entityId }) => ({ ...fieldsOf({ entityType, entityId }), message_id: messageId }));
  return jsonLines([...lines, ...unordered]);
}

export function outcomeText({ replayed, left }: ReplayReport, outcomes: readonly EntityOutcome[]): string {
  const told = outcomes.filter(({ status }) => status !== 'whole');
  const shown = told.slice(0, maxShown).map(outcomeLine);
  if (told.length > maxShown) shown.push(`  and ${grouped(told.length - maxShown)} more entities\n`);
  const whole = outcomes.filter(({ status }) => status === 'whole').length;
  const gone = left === 0 ? '' : `, ${grouped(left)} were not come to or are in the queue no more`;
  return `${grouped(replayed)} replayed${gone}; ${grouped(whole)} of ${grouped(outcomes.length)} entities whole again\n${shown.join('')}`;
}

export function outcomeJson({ replayed, left }: ReplayReport, outcomes: readonly EntityOutcome[]): string {
  const entities = outcomes.map(({ replay, now, status }) => ({ ...fieldsOf(replay.entity), status, version: now.version, parked: now.parked }));
  return jsonLines([...entities, { replayed, left }]);
}

function planLine({ entity, version, letters, fetched, blocked }: EntityReplay): string {
  const goes = letters.length === 0 ? 'nothing goes' : `${sequencesText(letters)} ${letters.length === 1 ? 'goes' : 'go'}`;
  const source = fetched.length === 0 ? '' : `, with ${sequencesText(fetched.map(({ event }) => event))} from the source`;
  const stays = blocked === null ? '' : `; ${sequencesText(blocked.letters)} ${blocked.letters.length === 1 ? 'waits' : 'wait'} for ${blocked.missing}: ${blocked.why}`;
  return `  ${nameOf(entity)} at version ${version}: ${goes}${source}${stays}\n`;
}

function outcomeLine({ replay, now, status }: EntityOutcome): string {
  const name = nameOf(replay.entity);
  const parked = now.parked === null ? '' : `${now.parked.reason} at sequence ${now.parked.sequence} (${printable(now.parked.detail)})`;
  if (status === 'parked-again') return `  ${name} is parked again at version ${now.version}: ${parked}\n`;
  if (status === 'undecided') return `  ${name} is at version ${now.version}, and not all of it was processed yet: is a worker running?\n`;
  return `  ${name} is at version ${now.version}, and still parked for others of its dead letters\n`;
}

function nameOf({ entityType, entityId }: EntityReplay['entity']): string {
  return printable(`${entityType} ${entityId}`);
}

function fieldsOf({ entityType, entityId }: { readonly entityType: string | null; readonly entityId: string | null }): object {
  return { entity_type: entityType, entity_id: entityId };
}

function jsonLines(objects: readonly object[]): string {
  return objects.map((object) => `${printableJson(JSON.stringify(object))}\n`).join('');
}
