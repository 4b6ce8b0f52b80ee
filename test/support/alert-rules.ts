/**
 * The rules that ship, as data: their alerts and recorded names, what an expression reads, and a copy in which time
 * runs faster. The copy differs in durations only (windows, offsets, `for`); `durationsOf` and `withoutDurations` show it.
 */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { metricTable, type MetricRow } from '../../src/observability/metric-table.ts';
import { checkout } from './checkout.ts';

export const rulesFolder = `${checkout}deploy/prometheus`;

export interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Recording {
  readonly record: string;
  readonly expr: string;
}

export interface AlertCase {
  readonly name: string;
  readonly alert_rule_test: readonly {
    readonly alertname: string;
    readonly exp_alerts: readonly { readonly exp_labels: { readonly severity: string } }[];
  }[];
}

export function readRulesText(): string {
  return readFileSync(`${rulesFolder}/rules.yml`, 'utf8');
}

export function readRules(): { readonly alerts: readonly Alert[]; readonly recordings: readonly Recording[] } {
  const { groups } = parse(readRulesText()) as { groups: { rules: (Alert | Recording)[] }[] };
  const rules = groups.flatMap((group) => group.rules);
  return {
    alerts: rules.filter((rule): rule is Alert => 'alert' in rule),
    recordings: rules.filter((rule): rule is Recording => 'record' in rule),
  };
}

export function readCases(): readonly AlertCase[] {
  return (parse(readFileSync(`${rulesFolder}/rules.test.yml`, 'utf8')) as { tests: AlertCase[] }).tests;
}

/** What others export: Prometheus itself, and the broker's plugin. */
const foreignMetrics = ['up', 'rabbitmq_global_messages_dead_lettered_delivery_limit_total'];

/** Every name under which a sample of the workers, of the broker or of a recording rule can be asked for. */
export function knownNames(): ReadonlySet<string> {
  const ours = Object.entries<MetricRow>(metricTable).flatMap(([name, { type }]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => name + suffix) : [name],
  );
  return new Set([...ours, ...foreignMetrics, ...readRules().recordings.map(({ record }) => record)]);
}

/** The metrics that an expression reads: what is left of it without labels, strings, durations and PromQL's own words. */
export function namesIn(expression: string): readonly string[] {
  const bare = expression
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]|"[^"]*"/g, ' ')
    .replaceAll(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, ' ')
    .replaceAll(/\boffset\s+\S+/g, ' ')
    .replaceAll(/\b(unless|and|or|bool)\b/g, ' ');
  return [...new Set([...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])/g)].map(([name]) => name))].filter(
    (name) => !/^(sum|max|min|avg|count)$/.test(name),
  );
}

/** What an expression reads in the end: recorded names stand for what they are made of. */
export function sourcesOf(expression: string): readonly string[] {
  const { recordings } = readRules();
  return namesIn(expression).flatMap((name) => {
    const recording = recordings.find(({ record }) => record === name);
    return recording === undefined ? [name] : sourcesOf(recording.expr);
  });
}

const duration = /(?<=\[|\boffset |\bfor: )(\d+)([smh])(?=\]|\b)/g;
const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };

/** In milliseconds, in the order of the text. */
export function durationsOf(text: string): readonly number[] {
  const shortened = new RegExp(duration.source.replace('[smh]', 'ms|[smh]'), 'g');
  return [...text.matchAll(shortened)].map(([, count, unit = '']) => Number(count) * (unit === 'ms' ? 1 : (unitMs[unit] ?? NaN)));
}

/** The text with a mark where durations stand. */
export function withoutDurations(text: string): string {
  return text.replaceAll(new RegExp(duration.source.replace('[smh]', 'ms|[smh]'), 'g'), '…');
}

/** The rules with every duration divided by `factor`. */
export function shortenedRules(text: string, factor: number): string {
  return text.replaceAll(duration, (_, count: string, unit: string) => `${(Number(count) * (unitMs[unit] ?? NaN)) / factor}ms`);
}

/** `HighMessageReorderingRate` → `high-message-reordering-rate`. */
export function kebabCase(name: string): string {
  return name.replaceAll(/(?<!^)[A-Z]/g, (letter) => `-${letter}`).toLowerCase();
}
