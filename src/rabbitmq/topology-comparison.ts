/**
 * Compares a plan with what the management API shows; the differences are findings. Pure.
 */
import { isDeepStrictEqual } from 'node:util';
import { failure, type Finding, ok, warning } from '../finding.ts';
import type { BindingInfo, ExchangeInfo, PolicyInfo, QueueInfo } from './management.ts';
import { type BindingPlan, isShardQueueName, shardQueueName, type TopologyPlan } from './topology-plan.ts';

/** The topology of the whole virtual host. */
export interface SeenTopology {
  readonly exchanges: readonly ExchangeInfo[];
  readonly queues: readonly QueueInfo[];
  readonly bindings: readonly BindingInfo[];
  readonly policies: readonly PolicyInfo[];
  /** Null when this user may not see them. */
  readonly operatorPolicies: readonly PolicyInfo[] | null;
}

const apply = 'run `inorder topology apply`';
const recreate = 'drain and delete it, then run `inorder topology apply`';

export function exchangeFindings(plan: TopologyPlan, seen: SeenTopology): readonly Finding[] {
  return plan.exchanges.map(({ name, type, arguments: wanted }) => {
    const subject = `exchange ${name}`;
    const found = seen.exchanges.find((exchange) => exchange.name === name);
    if (found === undefined) return failure(subject, 'it does not exist', apply);
    const differences = [
      ...valueDifferences({ type, durable: true, auto_delete: false, internal: false }, { ...found }),
      ...argumentDifferences(wanted, found.arguments),
    ];
    return verdict(subject, differences, recreate);
  });
}

export function queueFindings(plan: TopologyPlan, seen: SeenTopology): readonly Finding[] {
  return plan.queues.map(({ name, arguments: wanted }) => {
    const subject = `queue ${name}`;
    const found = seen.queues.find((queue) => queue.name === name);
    if (found === undefined) return failure(subject, 'it does not exist', apply);
    const differences = [
      ...valueDifferences({ durable: true, auto_delete: false, exclusive: false }, { ...found }),
      ...argumentDifferences(wanted, found.arguments),
    ];
    return verdict(subject, differences, recreate);
  });
}

/** Every missing or unexpected binding of our exchanges and queues. */
export function bindingFindings(plan: TopologyPlan, seen: SeenTopology): readonly Finding[] {
  const ours = new Set(plan.exchanges.map(({ name }) => name));
  const shards = new Set(plan.bindings.filter(({ exchange }) => exchange === plan.stream).map(({ queue }) => queue));
  const findings = plan.exchanges.flatMap(({ name }) => {
    const wanted = plan.bindings.filter(({ exchange }) => exchange === name);
    return bindingsOfExchange(
      plan,
      name,
      wanted,
      seen.bindings.filter(({ source }) => source === name),
    );
  });
  for (const { source, destination, destination_type } of seen.bindings) {
    if (source === '' || ours.has(source) || destination_type !== 'queue' || !shards.has(destination)) continue;
    findings.push(
      failure(`queue ${destination}`, `exchange ${source} is bound to it as well: its messages bypass the ring`, 'remove that binding'),
    );
  }
  return findings;
}

function bindingsOfExchange(
  plan: TopologyPlan,
  exchange: string,
  wanted: readonly BindingPlan[],
  found: readonly BindingInfo[],
): Finding[] {
  const subject = `bindings of ${exchange}`;
  const isRing = exchange === plan.stream;
  const findings: Finding[] = [];
  for (const { queue, routingKey } of wanted) {
    const there = found.filter(({ destination, destination_type }) => destination_type === 'queue' && destination === queue);
    const right = there.filter((binding) => binding.routing_key === routingKey && Object.keys(binding.arguments).length === 0);
    if (right.length === 0)
      findings.push(failure(subject, `queue ${queue} is not bound${isRing ? ` with weight "${routingKey}"` : ''}`, apply));
    for (const binding of there) {
      if (right.includes(binding)) continue;
      const how = `with ${isRing ? 'weight' : 'routing key'} ${JSON.stringify(binding.routing_key)}${argumentsAsText(binding.arguments)}`;
      const meaning = isRing ? ': keys move between shards' : ': messages may come twice';
      findings.push(failure(subject, `queue ${queue} is ${right.length > 0 ? 'also ' : ''}bound ${how}${meaning}`, `unbind it; ${apply}`));
    }
  }
  for (const { destination, destination_type } of found) {
    if (destination_type === 'queue' && wanted.some(({ queue }) => queue === destination)) continue;
    findings.push(isRing ? surplusBinding(plan, subject, destination, destination_type) : copied(subject, destination));
  }
  return findings.length > 0 ? findings : [ok(subject, `${wanted.length}, as they should be`)];
}

function surplusBinding({ stream, shards }: TopologyPlan, subject: string, destination: string, kind: string): Finding {
  if (kind === 'queue' && isShardQueueName(stream, destination)) {
    return failure(
      subject,
      `queue ${destination} is bound, but SHARDS is ${shards}: another process has a higher SHARDS, or had`,
      'give every process the same SHARDS; to have fewer shards, unbind and drain the last queues, then delete them',
    );
  }
  return failure(subject, `${kind} ${destination} is bound, and takes its share of the events`, 'unbind it');
}

/** Dead letters and unrouted events go through fanout exchanges: another queue only gets a copy. */
function copied(subject: string, destination: string): Finding {
  return warning(subject, `${destination} is bound as well and gets a copy of everything`, 'unbind it unless that is wanted');
}

/** Shard queues beyond SHARDS that are not bound any more. */
export function surplusFindings(plan: TopologyPlan, seen: SeenTopology): readonly Finding[] {
  const planned = new Set(plan.queues.map(({ name }) => name));
  const surplus = seen.queues.filter(({ name }) => isShardQueueName(plan.stream, name) && !planned.has(name));
  return surplus.map(({ name, messages = 0 }) => {
    const isBound = seen.bindings.some(({ source, destination }) => source === plan.stream && destination === name);
    const level = isBound || messages > 0 ? 'failure' : 'warning';
    const detail = `it is beyond SHARDS=${plan.shards} (${shardQueueName(plan.stream, plan.shards - 1)} is the last), and holds ${messages} messages`;
    return { level, subject: `queue ${name}`, detail, remedy: 'raise SHARDS everywhere, or unbind, drain and delete the queue' };
  });
}

function valueDifferences(wanted: Readonly<Record<string, unknown>>, found: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(wanted)
    .filter(([name, value]) => found[name] !== value)
    .map(([name, value]) => `${name} is ${String(found[name])} instead of ${String(value)}`);
}

function argumentDifferences(wanted: Readonly<Record<string, unknown>>, found: Readonly<Record<string, unknown>>): string[] {
  const names = new Set([...Object.keys(wanted), ...Object.keys(found)]);
  return [...names].sort().flatMap((name) => {
    const [should, is] = [wanted[name], found[name]];
    if (isDeepStrictEqual(should, is)) return [];
    if (should === undefined) return [`it has ${name} ${JSON.stringify(is)}`];
    return [`${name} is ${is === undefined ? 'not set' : JSON.stringify(is)} instead of ${JSON.stringify(should)}`];
  });
}

function argumentsAsText(args: Readonly<Record<string, unknown>>): string {
  return Object.keys(args).length === 0 ? '' : ` and arguments ${JSON.stringify(args)}`;
}

function verdict(subject: string, differences: readonly string[], remedy: string): Finding {
  if (differences.length === 0) return ok(subject, 'as it should be');
  return failure(subject, differences.join('; '), remedy);
}
