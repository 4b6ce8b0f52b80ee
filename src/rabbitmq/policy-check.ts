/**
 * Finds policies and operator policies that break a stream's guarantees: they apply to queues by a pattern of names, which
 * was often written for other queues. Pure.
 *
 * Of the policies that match a queue only the one with the highest priority is in force, and in addition the operator
 * policy with the highest priority. An argument of the queue takes precedence over a policy, except for limits, of which
 * the lower one counts.
 */
import { consumerTimeoutMs } from '../config/variables.ts';
import { failure, type Finding, ok, warning } from '../finding.ts';
import type { PolicyInfo } from './management.ts';
import type { SeenTopology } from './topology-comparison.ts';
import type { QueuePlan, TopologyPlan } from './topology-plan.ts';

type Definition = Readonly<Record<string, unknown>>;

interface Rule {
  readonly level: 'warning' | 'failure';
  /** Its effect on the queue; null if it is harmless. */
  readonly consequence: (value: unknown, queue: QueuePlan, definition: Definition) => string | null;
}

const always = (level: Rule['level'], consequence: string): Rule => ({ level, consequence: () => consequence });

/** By the key of a policy's definition. Other keys are harmless. */
const rules: Readonly<Record<string, Rule>> = {
  'message-ttl': always('failure', 'messages expire'),
  expires: always('failure', 'the queue is deleted when nobody uses it'),
  'max-length': { level: 'failure', consequence: dropsHead },
  'max-length-bytes': { level: 'failure', consequence: dropsHead },
  'delivery-limit': {
    level: 'failure',
    consequence: (value, queue) => {
      const own = queue.arguments['x-delivery-limit'];
      if (typeof own === 'number' && typeof value === 'number' && value >= own) return null;
      return 'messages are dead-lettered or dropped when consumers reconnect often';
    },
  },
  'dead-letter-routing-key': {
    level: 'failure',
    consequence: (_value, queue) => ('x-dead-letter-exchange' in queue.arguments ? 'dead letters lose the id of their entity' : null),
  },
  'dead-letter-exchange': {
    level: 'warning',
    consequence: (_value, queue) =>
      'x-dead-letter-exchange' in queue.arguments ? null : 'what expires or is rejected here goes elsewhere',
  },
  'dead-letter-strategy': unlessArgument('x-dead-letter-strategy', 'dead-lettering may lose messages'),
  overflow: unlessArgument('x-overflow', 'a full queue drops its oldest messages'),
  'delayed-retry-type': {
    level: 'failure',
    consequence: (value) =>
      value === 'disabled' ? null : 'what goes back to the queue when a channel closes comes late, behind its successors',
  },
  'max-priority': always('failure', 'messages with a priority overtake others'),
  'ha-mode': always('warning', 'mirrored classic queues can lose or repeat messages on a fail-over'),
};

const parts = [
  { name: 'policies', kind: 'policy' },
  { name: 'operatorPolicies', kind: 'operator policy' },
] as const;

/**
 * Checks the broker's limit on unacknowledged deliveries against GAP_TIMEOUT_MS. A third of it is for the gap, the rest for
 * parking and for times in which the store is unavailable.
 */
export function consumerTimeoutFinding(plan: TopologyPlan, seen: SeenTopology, gapTimeoutMs: number): Finding {
  const subject = 'consumer timeout';
  const shards = new Set(plan.bindings.filter(({ exchange }) => exchange === plan.stream).map(({ queue }) => queue));
  const held = plan.queues.filter(({ name }) => shards.has(name));
  const known = held.flatMap((queue) =>
    parts.flatMap(({ name }) => inForce(seen[name] ?? [], queue)?.definition['consumer-timeout'] ?? []),
  );
  const shortestMs = Math.min(...known.filter((value) => typeof value === 'number'));
  if (shortestMs < 3 * gapTimeoutMs) {
    const detail = `a policy sets it to ${shortestMs} ms, less than three times GAP_TIMEOUT_MS (${gapTimeoutMs}): what is held costs the channel`;
    return failure(subject, detail, `set it to ${3 * gapTimeoutMs} or more, or lower GAP_TIMEOUT_MS`);
  }
  const limit =
    shortestMs === Number.POSITIVE_INFINITY
      ? `no policy sets it; rabbitmq.conf cannot be seen from here, and its default is ${consumerTimeoutMs} ms`
      : `${shortestMs} ms by policy`;
  return ok(subject, `${limit}; GAP_TIMEOUT_MS is ${gapTimeoutMs}`);
}

export function policyFindings(plan: TopologyPlan, seen: SeenTopology): readonly Finding[] {
  const harms = new Map<string, { readonly finding: Finding; readonly queues: string[] }>();
  for (const queue of plan.queues) {
    for (const { name, kind } of parts) {
      const policy = inForce(seen[name] ?? [], queue);
      if (policy === null) continue;
      for (const finding of harmOf(policy, kind, queue)) {
        const key = `${finding.subject} ${finding.detail}`;
        const known = harms.get(key);
        if (known === undefined) harms.set(key, { finding, queues: [queue.name] });
        else known.queues.push(queue.name);
      }
    }
  }
  const findings = [...harms.values()].map(({ finding, queues }) => ({ ...finding, detail: `${finding.detail} (${namesOf(queues)})` }));
  if (seen.operatorPolicies === null) {
    findings.push(warning('operator policies', 'this user may not see them', 'check as an administrator'));
  }
  return findings.length > 0 ? findings : [ok('policies', 'none that breaks order')];
}

function harmOf(policy: PolicyInfo, kind: string, queue: QueuePlan): readonly Finding[] {
  return Object.entries(policy.definition).flatMap(([key, value]) => {
    const rule = Object.hasOwn(rules, key) ? rules[key] : undefined;
    const consequence = rule?.consequence(value, queue, policy.definition) ?? null;
    if (rule === undefined || consequence === null) return [];
    return [
      {
        level: rule.level,
        subject: `${kind} ${policy.name}`,
        detail: `it sets ${key} to ${JSON.stringify(value)}: ${consequence}`,
        remedy: `change its pattern ${JSON.stringify(policy.pattern)} so that it does not match`,
      },
    ];
  });
}

/** Of several that match, the one with the highest priority. */
function inForce(policies: readonly PolicyInfo[], queue: QueuePlan): PolicyInfo | null {
  const matching = policies.filter((policy) => appliesTo(policy, queue) && matches(policy.pattern, queue.name));
  return matching.reduce<PolicyInfo | null>((best, policy) => (best === null || policy.priority > best.priority ? policy : best), null);
}

function appliesTo({ 'apply-to': target }: PolicyInfo, queue: QueuePlan): boolean {
  return target === 'all' || target === 'queues' || target === `${String(queue.arguments['x-queue-type'])}_queues`;
}

function matches(pattern: string, name: string): boolean {
  try {
    return new RegExp(pattern).test(name);
  } catch {
    // A syntax that this runtime cannot parse: better a needless warning than a missing one.
    return true;
  }
}

/** A full queue that drops its oldest messages is a failure; with `reject-publish` it keeps its order, and the publisher waits. */
function dropsHead(_value: unknown, queue: QueuePlan, definition: Definition): string | null {
  const overflow = queue.arguments['x-overflow'] ?? definition['overflow'] ?? 'drop-head';
  return overflow === 'reject-publish' ? null : 'a full queue drops its oldest messages';
}

function unlessArgument(argument: string, consequence: string): Rule {
  return { level: 'warning', consequence: (_value, queue) => (argument in queue.arguments ? null : consequence) };
}

const namesShown = 3;

function namesOf(queues: readonly string[]): string {
  const shown = queues.slice(0, namesShown).join(', ');
  return queues.length > namesShown ? `${shown} and ${queues.length - namesShown} more` : shown;
}
