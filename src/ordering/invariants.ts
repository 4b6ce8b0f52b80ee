/**
 * What must hold of a sequencer after every step. Slow, for tests and the simulation.
 */
import type { Lane, Operation } from './lane.ts';

export interface Totals {
  readonly undecided: number;
  readonly leaving: number;
  readonly held: number;
  readonly gaps: number;
  /** False while draining and after: then lanes stop where they are. */
  readonly running: boolean;
}

/** The first contradiction found, or null. */
export function checkInvariants(lanes: Iterable<Lane>, operations: Iterable<Operation>, totals: Totals): string | null {
  const seen = new Set<number>();
  let held = 0;
  let gaps = 0;
  let leaving = 0;
  let problem: string | null = null;
  const see = (tag: number, where: string) => {
    if (seen.has(tag)) problem ??= `delivery ${tag} is in two places (${where})`;
    seen.add(tag);
  };
  const underWay = new Set<Operation>();
  let lookingUp = 0;
  for (const operation of operations) {
    underWay.add(operation);
    if (operation.lane !== null && operation.lane.op !== operation) problem ??= `operation ${operation.id} is not its lane's`;
    for (const slot of operation.slots) see(slot.delivery.tag, 'slot');
    for (const delivery of operation.deliveries) see(delivery.tag, 'lookUp');
    lookingUp += operation.deliveries.length;
    if (operation.effect.kind === 'reject') leaving += operation.effect.rejections.length;
    problem ??= checkSlots(operation);
  }
  for (const lane of lanes) {
    const name = `${lane.entity.entityType} ${lane.entity.entityId}`;
    for (const delivery of lane.arrivals) see(delivery.tag, 'arrivals');
    for (const delivery of lane.held.deliveries()) see(delivery.tag, 'held');
    if (lane.parking?.delivery) see(lane.parking.delivery.tag, 'parking');
    held += lane.held.count;
    lookingUp -= lane.lookingUp;
    const { version, state } = lane.known;
    const isOpen = lane.gap !== null && lane.gap.aboveVersion !== null;
    if (isOpen) gaps++;
    if (lane.op !== null && !underWay.has(lane.op)) problem ??= `${name} waits for an operation that is over`;
    if (totals.running && lane.idle) problem ??= `${name} is at rest and its lane is kept`;
    if (lane.op === null && state === 'unknown' && lane.held.count > 0) problem ??= `${name} holds without knowing its version`;
    if (!totals.running) continue;
    const lowest = lane.held.lowest();
    if (lane.op === null && lowest !== null && lowest <= version + 1) problem ??= `${name} holds ${lowest} at version ${version}`;
    if (lane.op === null && lowest !== null && !isOpen) problem ??= `${name} holds ${lowest} and watches no gap`;
  }
  if (problem !== null) return problem;
  if (lookingUp !== 0) return `${lookingUp} deliveries are asked about that no lane waits for`;
  if (held !== totals.held) return `${held} are held, but ${totals.held} are counted`;
  if (gaps !== totals.gaps) return `${gaps} gaps are open, but ${totals.gaps} are counted`;
  if (leaving !== totals.leaving) return `${leaving} are being rejected, but ${totals.leaving} are counted`;
  if (seen.size !== totals.undecided) return `${seen.size} deliveries are kept, but ${totals.undecided} are undecided`;
  return null;
}

/** The slots of a commit go up by one from the expected version, except over holes. */
function checkSlots(operation: Operation): string | null {
  if (operation.effect.kind !== 'commit') return null;
  let version = operation.effect.expectedVersion;
  for (const slot of operation.slots) {
    const closesHole = slot.sequence <= version;
    if (slot.versionAfter < version) return `operation ${operation.id} takes the version back to ${slot.versionAfter}`;
    if (!closesHole && slot.versionAfter !== slot.sequence)
      return `operation ${operation.id} records ${slot.sequence} as ${slot.versionAfter}`;
    if (slot.sequence > version + 1 && slot.holesAfter === '') return `operation ${operation.id} passes over sequences without holes`;
    version = slot.versionAfter;
  }
  return null;
}
