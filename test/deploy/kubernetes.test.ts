/** The Kubernetes manifests: right by their schemas, and right for each other and for the worker. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import test from 'node:test';
import { findExecutable } from '../../deploy/local/rabbit-binaries.ts';
import { loadConfig } from '../../src/config/load.ts';
import { isVariableName, variables } from '../../src/config/variables.ts';
import {
  fieldProblems,
  kubernetesFolder,
  type Manifest,
  parseManifests,
  readManifests,
  renderPrometheusRule,
  valueProblems,
} from '../support/kubernetes.ts';
import { fencesOf, readReadme } from '../support/readme.ts';

const noKubectl = findExecutable('kubectl') === null && 'there is no kubectl';
const kustomization = readManifests('base/kustomization.yaml')[0]!;
const files: readonly string[] = kustomization['resources'];
const base = files.flatMap((file) => readManifests(`base/${file}`));
const scaled = readManifests('keda/scaledobject.yaml')[0]!;
const of = (kind: string): Manifest & Readonly<Record<string, any>> => base.find((manifest) => manifest.kind === kind)!;
const worker = of('StatefulSet').spec;
const [container] = worker.template.spec.containers;
const pods = [of('StatefulSet'), of('Job')].map(({ spec }) => spec.template);
const maps: Readonly<Record<string, Readonly<Record<string, string>>>> = Object.fromEntries(
  kustomization['configMapGenerator'].map(({ name, literals }: { name: string; literals: string[] }) => [
    name,
    Object.fromEntries(literals.map((literal) => literal.split('='))),
  ]),
);
const isFile = (name: string) => name.endsWith('_FILE');
const config = Object.fromEntries(Object.entries({ ...maps['inorder'], ...maps['inorder-worker'] }).filter(([name]) => !isFile(name)));

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
  skip: noKubectl,
}, async () => {
  for (const folder of ['base', 'keda']) {
    const built = parseManifests(execFileSync('kubectl', ['kustomize', join(kubernetesFolder, folder)], { encoding: 'utf8' }));
    assert.deepEqual(await valueProblems(built), []);
    const made = built.filter(({ kind }) => kind === 'ConfigMap').map(({ metadata }) => metadata.name);
    const set = built.find(({ kind }) => kind === 'StatefulSet')!;
    assert.deepEqual(
      set.spec.template.spec.containers[0].envFrom.map(({ configMapRef }: { configMapRef: { name: string } }) => configMapRef.name),
      made,
    );
    assert.equal(set.spec.replicas, folder === 'base' ? 2 : undefined, 'where KEDA scales, nobody else says how many');
    assert.equal(set.spec.template.metadata.labels['app.kubernetes.io/name'], 'inorder');
    assert.ok(built.every(({ metadata }) => metadata.labels?.['app.kubernetes.io/name'] === 'inorder' || folder === 'keda'));
  }
});

test('the overlay that the README shows builds, and leaves a configuration', { skip: noKubectl }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'inorder-overlay-'));
  try {
    const [overlay] = fencesOf(readReadme('deploy/README.md')).filter(({ language }) => language === 'yaml');
    const here = relative(realpathSync(folder), join(kubernetesFolder, 'base'));
    writeFileSync(join(folder, 'kustomization.yaml'), overlay!.text.replace('inorder/deploy/kubernetes/base', here));
    const built = parseManifests(execFileSync('kubectl', ['kustomize', folder], { encoding: 'utf8' }));
    const { DATABASE_URL_FILE, ADMIN_TOKEN_FILE, AMQP_URL_FILE, REDIS_URL_FILE, ...others } = Object.assign(
      {},
      ...built.filter(({ kind }) => kind === 'ConfigMap').map(({ data }) => data),
    );
    assert.deepEqual(
      [DATABASE_URL_FILE, ADMIN_TOKEN_FILE, AMQP_URL_FILE].map((path) => path.startsWith('/run/secrets/inorder/')),
      [true, true, true],
    );
    assert.equal(REDIS_URL_FILE, '', 'which counts as unset');
    assert.equal(loadConfig({ ...others, DATABASE_URL: 'postgres://db/orders' }).store.kind, 'postgres');
    const { egress } = built.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name === 'inorder')!.spec;
    assert.deepEqual(
      egress.map(({ ports }: { ports: { port: number }[] }) => ports.map(({ port }) => port)),
      [[53, 53], [5671, 5672], [5432]],
    );
  } finally {
    rmSync(folder, { recursive: true });
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
  assert.equal(of('ServiceMonitor').spec.endpoints[0].port, 'http');
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

test('variables are variables and make a configuration; each secret is a file of a read-only volume, and no variable', () => {
  const secrets = pods.map(({ spec }) => {
    const [{ env = [], envFrom, volumeMounts }] = spec.containers;
    const given: Record<string, string> = Object.assign(
      {},
      ...envFrom.map(({ configMapRef }: { configMapRef: { name: string } }) => maps[configMapRef.name]),
    );
    for (const { name, value } of env) given[name] = value;
    delete given['NODE_OPTIONS'];
    for (const name of Object.keys(given)) assert.ok(isVariableName(name.replace(/_FILE$/, '')), name);
    assert.deepEqual(
      Object.keys(given).filter((name) => isVariableName(name) && variables[name].secret),
      [],
    );
    const mount = volumeMounts.find(({ name }: { name: string }) => name === 'secrets');
    assert.equal(mount.readOnly, true);
    const { secret } = spec.volumes.find(({ name }: { name: string }) => name === 'secrets');
    assert.equal(secret.defaultMode, 0o440, 'for user and group of the process only');
    assert.equal(spec.securityContext.fsGroup, spec.securityContext.runAsGroup);
    const paths = Object.entries(given).filter(([name]) => isFile(name));
    for (const [name, path] of paths) assert.equal(path, `${mount.mountPath}/${name.replace(/_FILE$/, '')}`);
    return [secret.secretName, ...paths.map(([name]) => name)];
  });
  assert.deepEqual(secrets, [
    ['inorder', 'AMQP_URL_FILE', 'REDIS_URL_FILE'],
    ['inorder-topology', 'AMQP_URL_FILE', 'REDIS_URL_FILE'],
  ]);
  const { broker } = loadConfig({ ...config, WORKER_ORDINAL: '1' });
  assert.deepEqual(broker.share, { ordinal: 1, replicas: worker.replicas });
  assert.equal(broker.topology, 'verify', 'the user of the workers may declare nothing');
  assert.equal(worker.podManagementPolicy, 'Parallel', 'workers that wait for each other would leave everything to the first');
});

test('every pod is closed both ways, but for peers and ports that are named', () => {
  const policies = base.filter(({ kind }) => kind === 'NetworkPolicy').map(({ spec }) => spec);
  const selects = (selector: object, labels: Readonly<Record<string, string>>) =>
    Object.entries(selector).every(([name, value]) => labels[name] === value);
  const flows = pods.map(({ metadata }) => {
    const own = policies.filter(({ podSelector }) => selects(podSelector.matchLabels, metadata.labels));
    assert.ok(own.length > 0 && own.every(({ policyTypes }) => policyTypes.join() === 'Ingress,Egress'));
    return (['ingress', 'egress'] as const).map((way) =>
      own
        .flatMap((policy) => policy[way] ?? [])
        .flatMap(({ from, to, ports }) => {
          assert.ok((from ?? to).length > 0 && ports.length > 0, 'neither everybody nor every port');
          return (from ?? to).map(({ namespaceSelector, podSelector }: Record<string, { matchLabels?: Record<string, string> }>) => {
            const [where = 'any', peer] = [namespaceSelector, podSelector].map((selector) => Object.values(selector?.matchLabels ?? {})[0]);
            assert.ok(peer, 'not every pod');
            return `${where}/${peer} ${ports.map(({ port }: { port: string }) => port)}`;
          });
        }),
    );
  });
  const everyPod = ['kube-system/kube-dns 53,53', 'any/rabbitmq 5671,5672', 'any/redis 6379,26379'];
  assert.deepEqual(flows, [
    [['monitoring/prometheus http'], [...everyPod, 'any/rabbitmq 15671,15672']],
    [[], everyPod],
  ]);
});

test('containers run as nobody in particular, cannot write, and say what they need', () => {
  for (const { kind, spec } of [of('StatefulSet'), of('Job')]) {
    const pod = spec.template.spec;
    const { runAsNonRoot, seccompProfile } = pod.securityContext;
    assert.deepEqual([runAsNonRoot, seccompProfile.type, pod.automountServiceAccountToken], [true, 'RuntimeDefault', false], kind);
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
  assert.equal(base.filter(({ spec }) => spec?.template !== undefined).length, pods.length);
  for (const { spec } of pods) assert.equal(spec.enableServiceLinks, false);
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
