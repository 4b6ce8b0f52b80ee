/** The dashboard that ships: it reads only what is exported, and shows everything that an alert speaks of. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { knownNames, namesIn, readRules, sourcesOf } from '../support/alert-rules.ts';
import { checkout } from '../support/checkout.ts';

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
}

const dashboard = JSON.parse(readFileSync(`${checkout}deploy/grafana/dashboards/inorder.json`, 'utf8')) as { panels: readonly Panel[] };
const read = [...new Set(dashboard.panels.flatMap(({ targets = [] }) => targets.flatMap(({ expr }) => namesIn(expr))))];

test('panels read only what a worker, Prometheus, the broker or Node gives', () => {
  const known = knownNames();
  assert.ok(read.length > 25);
  assert.deepEqual(
    read.filter((name) => !known.has(name) && !/^(process|nodejs)_/.test(name)),
    [],
  );
});

test('every metric that an alert reads is in a panel', () => {
  const shown = new Set(read.map((name) => name.replace(/_(bucket|count)$/, '')));
  const missing = readRules()
    .alerts.flatMap(({ expr }) => sourcesOf(expr))
    .filter((name) => !shown.has(name.replace(/_(bucket|count)$/, '')));
  assert.deepEqual([...new Set(missing)], []);
});

test('panels need no plugin, and each has its own number', () => {
  assert.deepEqual([...new Set(dashboard.panels.map(({ type }) => type))].sort(), ['row', 'stat', 'timeseries']);
  assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
});
