/**
 * What is recorded of a rejection before it leaves: why, and as much of the event as could be read. The message itself
 * goes to the dead-letter queue, and its fingerprint finds the record again.
 */
import { InvariantError } from '../errors.ts';
import type { RawMessage } from '../events/event.ts';
import { messageFingerprint } from '../events/identity.ts';
import type { Rejection } from '../ordering/facts.ts';
import type { DeadLetterRecord } from '../stores/store.ts';

export function recordOf(rejection: Rejection, message: RawMessage | undefined, shard: number, deadLetteredAt: string): DeadLetterRecord {
  const { tag, reason, detail, stack, event, refusal } = rejection;
  if (message === undefined) throw new InvariantError(`delivery ${tag} is rejected and was never taken in`);
  const known = event ?? refusal;
  return {
    fingerprint: messageFingerprint(message),
    id: known?.id ?? null,
    entityType: known?.entityType ?? null,
    entityId: known?.entityId ?? null,
    sequence: known?.sequence ?? null,
    type: known?.type ?? null,
    reason,
    detail,
    ...(stack == null ? {} : { stack }),
    shard,
    deadLetteredAt,
  };
}
