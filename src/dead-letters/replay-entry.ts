/** What the audit trail says of a replay, which is written before its first letter goes. */
import type { AuditEntry } from '../stores/operator-store.ts';
import { countLetters, type ReplayPlan } from './replay-plan.ts';

export function replayEntry(plan: ReplayPlan, who: string, why: string): AuditEntry {
  const { going } = countLetters(plan);
  const fetched = plan.entities.reduce((sum, entity) => sum + entity.fetched.length, 0);
  const source = fetched === 0 ? '' : `, with ${fetched} missing ${fetched === 1 ? 'event' : 'events'} from the source`;
  const letters = `replays ${going} dead ${going === 1 ? 'letter' : 'letters'}${source}`;
  const entities = plan.entities.filter((entity) => entity.letters.length > 0);
  const [only] = entities;
  if (only !== undefined && entities.length === 1 && plan.unordered.length === 0) {
    return { action: 'replay', who, ...only.entity, what: letters, reason: why };
  }
  return { action: 'replay', who, entityType: null, entityId: null, what: `${letters} of ${entities.length} entities`, reason: why };
}
