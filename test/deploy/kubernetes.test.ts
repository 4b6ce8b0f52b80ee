/** The Kubernetes manifests: right by their schemas, and right for each other and for the worker. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { loadConfig } from '../../src/config/load.ts';
import { variableNames } from '../../src/config/variables.ts';
import {
  fieldProblems,
  kubernetesFolder,
  type Manifest,
  parseManifests,
  readManifest,
  renderPrometheusRule,
  valueProblems,
} from '../support/kubernetes.ts';

const files = (readManifest('base/kustomization.yaml') as unknown as { resources: string[] }).resources;
const base = files.map((file) => readManifest(`base/${file}`));
const scaled = readManifest('keda/scaledobject.yaml');
const of = (kind: string): Manifest & Readonly<Record<string, any>> => base.find((manifest) => manifest.kind === kind)!;
const worker = of('StatefulSet').spec;
const [container] = worker.template.spec.containers;
const config = Object.fromEntries(
  readManifest('base/kustomization.yaml')['configMapGenerator'][0].literals.map((literal: string) => literal.split('=')),
);

test('every file of the base is in it', () => {
  assert.deepEqual([...files, 'kustomization.yaml'].sort(), readdirSync(join(kubernetesFolder, 'base')).sort());
});

test('every manifest is right by its schema, and has no field that the schema does not know', async () => {
  assert.deepEqual(await valueProblems([...base, scaled]), []);
  assert.equal(await fieldProblems([...base, scaled]), '');
  const broken = (spec: object) => [{ ...of('StatefulSet'), spec: { ...worker, ...spec } }];
  assert.match((await valueProblems(broken({ replicas: 'two' }))).join(), /replicas must be integer/);
  assert.match(await fieldProblems(broken({ replica: 2 })), /"replica"' does not exist/);
});

test('what kustomize makes of them is right as well, and refers to what is there', {
  skip: findExecutable('kubectl') === null && 'there is no kubectl',
}, async () => {
  for (const folder of ['base', 'keda']) {
    const built = parseManifests(execFileSync('kubectl', ['kustomize', join(kubernetesFolder, folder)], { encoding: 'utf8' }));
    assert.deepEqual(await valueProblems(built), []);
    const maps = built.filter(({ kind }) => kind === 'ConfigMap').map(({ metadata }) => metadata.name);
    const set = built.find(({ kind }) => kind === 'StatefulSet')!;
    assert.deepEqual([set.spec.template.spec.containers[0].envFrom[0].configMapRef.name], maps);
    assert.equal(set.spec.replicas, folder === 'base' ? 2 : undefined, 'where KEDA scales, nobody else says how many');
    assert.equal(set.spec.template.metadata.labels['app.kubernetes.io/name'], 'inorder');
    assert.ok(built.every(({ metadata }) => metadata.labels?.['app.kubernetes.io/name'] === 'inorder' || folder === 'keda'));
  }
});

test('selectors find the pods of the workers, and ports are named as the container names them', () => {
  const labels = worker.template.metadata.labels;
  assert.deepEqual(worker.selector.matchLabels, labels);
  assert.deepEqual(of('Service').spec.selector, labels);
  assert.deepEqual(of('PodDisruptionBudget').spec.selector.matchLabels, labels);
  assert.deepEqual(of('ServiceMonitor').spec.selector.matchLabels, {
    'app.kubernetes.io/name': 'inorder',
    ...of('Service').metadata.labels,
  });
  assert.equal(worker.serviceName, of('Service').metadata.name);
  assert.deepEqual(container.ports, [{ name: 'http', containerPort: 9464 }]);
  for (const { port } of [of('ServiceMonitor').spec.endpoints[0], of('NetworkPolicy').spec.ingress[0].ports[0]]) assert.equal(port, 'http');
  assert.equal(of('Service').spec.ports[0].targetPort, 'http');
  assert.deepEqual(
    of('ServiceMonitor').spec.endpoints[0].relabelings,
    [{ targetLabel: 'job', replacement: 'inorder-worker' }],
    'the job that the rules expect',
  );
  assert.equal(of('ServiceMonitor').spec.endpoints[0].honorLabels, true, 'the service of a metric is its own');
});

test('liveness asks for the process only, readiness for all of it, and a stop has the time that it takes', () => {
  assert.equal(container.livenessProbe.httpGet.path, '/healthz');
  assert.equal(container.readinessProbe.httpGet.path, '/readyz');
  assert.ok(worker.template.spec.terminationGracePeriodSeconds * 1_000 > loadConfig({}).shutdownTimeoutMs);
});

test('variables are variables, make a configuration, and secrets come by reference', () => {
  for (const manifest of [of('StatefulSet'), of('Job')]) {
    const [{ env }] = manifest.spec.template.spec.containers;
    for (const { name, value, valueFrom } of env) {
      if (name === 'NODE_OPTIONS') continue;
      assert.ok(variableNames.includes(name), name);
      assert.ok(!/URL|TOKEN/.test(name) || (value === undefined && valueFrom.secretKeyRef.name === 'inorder'), `${name} is a secret`);
    }
  }
  const { broker } = loadConfig({ ...config, WORKER_ORDINAL: '1' });
  assert.deepEqual(broker.share, { ordinal: 1, replicas: worker.replicas });
  assert.equal(worker.podManagementPolicy, 'Parallel', 'workers that wait for each other would leave everything to the first');
});

test('containers run as nobody in particular, cannot write, and say what they need', () => {
  for (const { kind, spec } of [of('StatefulSet'), of('Job')]) {
    const pod = spec.template.spec;
    assert.deepEqual([pod.securityContext.runAsNonRoot, pod.automountServiceAccountToken], [true, false], kind);
    for (const { securityContext, resources } of pod.containers) {
      assert.deepEqual(
        [securityContext.readOnlyRootFilesystem, securityContext.allowPrivilegeEscalation, securityContext.capabilities.drop],
        [true, false, ['ALL']],
        kind,
      );
      assert.ok(resources.requests.cpu && resources.requests.memory && resources.limits.memory, kind);
    }
  }
});

test('the memory budget fits into the heap, and the heap into the limit', () => {
  const [{ env, resources }] = of('StatefulSet').spec.template.spec.containers;
  const [, heapMiB = ''] =
    /^--max-old-space-size=(\d+)$/.exec(env.find(({ name }: { name: string }) => name === 'NODE_OPTIONS').value) ?? [];
  const budgetMiB = loadConfig(config).limits.memoryBudgetBytes / 1_048_576;
  assert.ok(budgetMiB * 2 < Number(heapMiB), 'as much again for what is in the making and for garbage');
  assert.ok(Number(heapMiB) + budgetMiB < Number.parseInt(resources.limits.memory, 10), 'bodies lie beside the heap');
});

test('no pod takes the services of its namespace for its configuration', () => {
  const pods = base.flatMap(({ spec }) => (spec as Readonly<Record<string, any>> | undefined)?.template?.spec ?? []);
  assert.equal(pods.length, 2);
  for (const pod of pods) assert.equal(pod.enableServiceLinks, false);
});

test('the rules are those of Prometheus, and KEDA stops at the number of shards', () => {
  assert.equal(
    readFileSync(join(kubernetesFolder, 'base', 'prometheusrule.yaml'), 'utf8'),
    renderPrometheusRule(),
    'run: node --import tsx test/support/refresh-readme.ts',
  );
  assert.equal(scaled.spec.maxReplicaCount, Number(config.SHARDS));
  assert.ok(scaled.spec.minReplicaCount >= 2, 'one works, one stands by');
  assert.equal(scaled.spec.scaleTargetRef.name, of('StatefulSet').metadata.name);
});
