/** What the audit trail says of a replay. */
import type { AuditEntry } from '../stores/operator-store.ts';
import type { ReplayReport } from './replay.ts';
import type { ReplayPlan } from './replay-plan.ts';

export function replayEntry({ entities, unordered }: ReplayPlan, { replayed }: ReplayReport, who: string): AuditEntry {
  const [first] = entities;
  const letters = `replayed ${replayed} dead ${replayed === 1 ? 'letter' : 'letters'}`;
  if (first !== undefined && entities.length === 1 && unordered.length === 0) {
    return { action: 'replay', who, ...first.entity, what: letters, reason: '' };
  }
  return { action: 'replay', who, entityType: null, entityId: null, what: `${letters} of ${entities.length} entities`, reason: '' };
}
