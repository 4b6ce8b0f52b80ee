/** The rules that ship: Prometheus' own tool accepts and runs them, and each alert is complete, tried both ways and explained. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import test, { type TestContext } from 'node:test';
import { promisify } from 'node:util';
import {
  durationsOf,
  kebabCase,
  knownNames,
  namesIn,
  readCases,
  readRules,
  readRulesText,
  rulesFolder,
  shortenedRules,
  withoutDurations,
} from '../support/alert-rules.ts';
import { missingPrometheus } from '../support/prometheus-node.ts';
import { anchorsOf, readReadme } from '../support/readme.ts';

const run = promisify(execFile);
const { alerts, recordings } = readRules();
const page = 'deploy/prometheus/README.md';
const runbooks = `https://github.com/inorder/inorder/blob/main/${page}#`;

async function promtool(t: TestContext, ...args: string[]): Promise<void> {
  const missing = await missingPrometheus();
  if (missing !== null) return t.skip(missing);
  const { stdout } = await run('promtool', args, { cwd: rulesFolder });
  assert.match(stdout, /SUCCESS/);
}

test('promtool accepts the rules', (t) => promtool(t, 'check', 'rules', 'rules.yml'));

test('promtool accepts the configuration with the rules in it', (t) => promtool(t, 'check', 'config', 'prometheus.yml'));

test('every alert fires, says what it has to say, and stays silent as the cases of promtool demand', (t) =>
  promtool(t, 'test', 'rules', 'rules.test.yml'));

test('every alert, at each severity, has a case in which it fires and one in which it does not', () => {
  const cases = readCases().flatMap((one) => one.alert_rule_test);
  const fires = cases.flatMap(({ alertname, exp_alerts }) => exp_alerts.map(({ exp_labels }) => `${alertname} ${exp_labels.severity}`));
  const silent = cases.filter(({ exp_alerts }) => exp_alerts.length === 0).map(({ alertname }) => alertname);
  assert.ok(alerts.length >= 20);
  assert.deepEqual(
    alerts.map(({ alert, labels }) => `${alert} ${labels.severity}`).filter((one) => !fires.includes(one)),
    [],
  );
  assert.deepEqual(
    alerts.map(({ alert }) => alert).filter((name) => !silent.includes(name)),
    [],
  );
});

test('every alert has a severity, a summary, a description with its value and the address of its runbook', () => {
  for (const { alert, labels, annotations } of alerts) {
    assert.match(labels.severity, /^(critical|warning)$/, alert);
    assert.deepEqual(Object.keys(annotations), ['summary', 'description', 'runbook_url'], alert);
    assert.match(annotations['description'] ?? '', /\{\{ \$value\b/, alert);
    assert.equal(annotations['runbook_url'], `${runbooks}runbook-${kebabCase(alert)}`);
  }
});

test('every alert has its runbook at the address that it names, and every runbook its alert', () => {
  const anchors = anchorsOf(readReadme(page));
  assert.deepEqual(
    alerts.filter(({ annotations }) => !anchors.includes((annotations['runbook_url'] ?? '').replace(runbooks, ''))),
    [],
  );
  const explained = anchors.filter((anchor) => anchor.startsWith('runbook-'));
  assert.deepEqual(explained, [...new Set(alerts.map(({ alert }) => `runbook-${kebabCase(alert)}`))]);
});

test('rules read only what a worker, Prometheus, the broker or another rule gives', () => {
  const known = knownNames();
  const unknown = [...alerts, ...recordings].flatMap(({ expr }) => namesIn(expr)).filter((name) => !known.has(name));
  assert.deepEqual([...new Set(unknown)], []);
});

test('the names that an expression reads are found among labels, functions and words', () => {
  assert.deepEqual(
    namesIn('sum by (service, le) (rate(a_total{x="y"}[5m])) / on (service) group_left () max(b) > 0.5 unless c offset 5m'),
    ['a_total', 'b', 'c'],
  );
});

test('everything that is recorded is used', () => {
  const used = new Set([...alerts, ...recordings].flatMap(({ expr }) => namesIn(expr)));
  assert.deepEqual(
    recordings.map(({ record }) => record).filter((name) => !used.has(name)),
    [],
  );
});

test('a shortened copy of the rules differs from them in durations only, and in all of them', () => {
  const text = readRulesText();
  const copy = shortenedRules(text, 60);
  assert.equal(withoutDurations(copy), withoutDurations(text));
  assert.ok(durationsOf(text).length > 40);
  assert.deepEqual(
    durationsOf(copy),
    durationsOf(text).map((durationMs) => durationMs / 60),
  );
});
