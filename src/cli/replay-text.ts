/** A replay's plan and its outcome, for people and as JSON, one object per entity. */
import { grouped, printable, printableJsonLine } from '../printable.ts';
import type { EntityOutcome, LetterAgain, ReplayOutcome, ReplayReport } from '../dead-letters/replay.ts';
import { countLetters, type EntityReplay, type ReplayPlan, sequencesText, type NotReplayable } from '../dead-letters/replay-plan.ts';
import { entityFields } from '../events/event.ts';

/** Entities that are listed; of the others only how many. */
const maxShown = 50;

export function asPlanText(plan: ReplayPlan): string {
  const { replayable, blocked } = countLetters(plan);
  const { notReplayable = [] } = plan;
  if (replayable + blocked + notReplayable.length === 0) return 'no dead letter matches\n';
  const shown = plan.entities.slice(0, maxShown).map(planLine);
  if (plan.entities.length > maxShown) shown.push(`  and ${grouped(plan.entities.length - maxShown)} more entities\n`);
  const unordered =
    plan.unordered.length === 0
      ? ''
      : `  ${grouped(plan.unordered.length)} without an entity or a sequence that can be read: decided again\n`;
  const waiting = blocked === 0 ? '' : `, ${grouped(blocked)} blocked: replay them when what they wait for has arrived`;
  const kept = notReplayable.length === 0 ? '' : `, ${grouped(notReplayable.length)} not replayable`;
  return `${shown.join('')}${unordered}${notReplayableLines(notReplayable)}${grouped(replayable)} replayable${waiting}${kept}\n`;
}

export function asPlanJson(plan: ReplayPlan): string {
  const lines = plan.entities.map(({ entity, version, parked, letters, fetched, blocked }) => ({
    ...entityFields(entity),
    version,
    parked,
    replay: letters.map(({ sequence }) => sequence),
    fetched: fetched.map(({ event }) => event.sequence),
    blocked:
      blocked === null ? null : { sequences: blocked.letters.map(({ sequence }) => sequence), missing: blocked.missing, why: blocked.why },
  }));
  const unordered = plan.unordered.map((letter) => ({ ...entityFields(letter), message_id: letter.messageId }));
  const notReplayable = (plan.notReplayable ?? []).map(({ letter, why }) => ({
    ...entityFields(letter),
    message_id: letter.messageId,
    sequence: letter.sequence,
    reason: letter.reason,
    not_replayable: why,
  }));
  return jsonLines([...lines, ...unordered, ...notReplayable]);
}

export function outcomeText(
  { replayed, left }: Pick<ReplayReport, 'replayed' | 'left'>,
  { entities: outcomes, unordered }: ReplayOutcome,
): string {
  const others = outcomes.filter(({ status }) => status !== 'recovered');
  const shown = others.slice(0, maxShown).map(outcomeLine);
  if (others.length > maxShown) shown.push(`  and ${grouped(others.length - maxShown)} more entities\n`);
  const recovered = outcomes.filter(({ status }) => status === 'recovered').length;
  const gone = left === 0 ? '' : `, ${grouped(left)} not reached, or no longer in the queue`;
  return `${grouped(replayed)} replayed${gone}; ${grouped(recovered)} of ${grouped(outcomes.length)} entities recovered\n${shown.join('')}${looseLines(unordered)}`;
}

export function outcomeJson(
  { replayed, left }: Pick<ReplayReport, 'replayed' | 'left'>,
  { entities: outcomes, unordered }: ReplayOutcome,
): string {
  const entities = outcomes.map(({ replay, now, status, again, left: inQueue }) => ({
    ...entityFields(replay.entity),
    status,
    version: now.version,
    parked: now.parked,
    dead_lettered_again: again.map(againFields),
    left_in_queue: inQueue,
  }));
  const loose = unordered.again.map((again) => ({ ...entityFields(again.letter), status: 'dead-lettered-again', ...againFields(again) }));
  return jsonLines([...entities, ...loose, { replayed, left, undecided: unordered.undecided }]);
}

function againFields({ letter, reason, detail }: LetterAgain): object {
  return { message_id: letter.messageId, sequence: letter.sequence, reason, detail };
}

/** One line for those of one entity with the same reason. */
function notReplayableLines(notReplayable: readonly NotReplayable[]): string {
  const groups = new Map<string, NotReplayable[]>();
  for (const one of notReplayable) {
    const { entityType, entityId, reason } = one.letter;
    const name = JSON.stringify([entityType, entityId, reason, one.why]);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [one]);
    else group.push(one);
  }
  const shown = [...groups.values()].slice(0, maxShown).map((group) => {
    const [{ letter, why }] = group as [NotReplayable];
    const inOrder = group
      .map((one) => one.letter)
      .filter(({ sequence }) => sequence !== null)
      .sort((a, b) => a.sequence! - b.sequence!);
    const which =
      inOrder.length === group.length ? sequencesText(inOrder) : group.length === 1 ? printable(letter.messageId) : grouped(group.length);
    const entity =
      letter.entityId === null ? '' : `${printable([letter.entityType, letter.entityId].filter((part) => part !== null).join(' '))}: `;
    return `  ${entity}${which} not replayable (${letter.reason}): ${why}\n`;
  });
  if (groups.size > maxShown) shown.push(`  and ${grouped(groups.size - maxShown)} more of them\n`);
  return shown.join('');
}

function againText(again: readonly LetterAgain[]): string {
  const [{ letter, reason, detail }] = again as [LetterAgain];
  const which = letter.sequence === null ? printable(letter.messageId) : String(letter.sequence);
  const more = again.length === 1 ? '' : `, and ${grouped(again.length - 1)} more`;
  return `${which} was dead-lettered again: ${reason} (${printable(detail)})${more}`;
}

function looseLines({ again, undecided }: ReplayOutcome['unordered']): string {
  const shown = again.slice(0, maxShown).map((one) => `  ${againText([one])}\n`);
  if (again.length > maxShown) shown.push(`  and ${grouped(again.length - maxShown)} more\n`);
  if (undecided > 0) shown.push(`  ${grouped(undecided)} without a sequence were not processed yet: is a worker running?\n`);
  return shown.join('');
}

function planLine({ entity, version, letters, fetched, blocked }: EntityReplay): string {
  const replayable = `${letters.length === 0 ? 'nothing' : sequencesText(letters)} replayable`;
  const source = fetched.length === 0 ? '' : `, with ${sequencesText(fetched.map(({ event }) => event))} from the source`;
  const waiting =
    blocked === null
      ? ''
      : `; ${sequencesText(blocked.letters)} ${blocked.letters.length === 1 ? 'waits' : 'wait'} for ${blocked.missing}: ${blocked.why}`;
  return `  ${nameOf(entity)} at version ${version}: ${replayable}${source}${waiting}\n`;
}

function outcomeLine({ replay, now, status, again, left }: EntityOutcome): string {
  const name = nameOf(replay.entity);
  const parked = now.parked === null ? '' : `${now.parked.reason} at sequence ${now.parked.sequence} (${printable(now.parked.detail)})`;
  if (status === 'parked-again') return `  ${name} is parked again at version ${now.version}: ${parked}\n`;
  if (status === 'dead-lettered-again') return `  ${name} is at version ${now.version}: ${againText(again)}\n`;
  if (status === 'undecided')
    return `  ${name} is at version ${now.version}, and not all of it was processed yet: is a worker running, or is its queue long?\n`;
  if (now.parked === null)
    return `  ${name} is at version ${now.version}, and ${grouped(left)} of its dead letters ${left === 1 ? 'is' : 'are'} left\n`;
  return `  ${name} is at version ${now.version}, and still parked for others of its dead letters\n`;
}

function nameOf({ entityType, entityId }: EntityReplay['entity']): string {
  return printable(`${entityType} ${entityId}`);
}

function jsonLines(objects: readonly object[]): string {
  return objects.map(printableJsonLine).join('');
}
