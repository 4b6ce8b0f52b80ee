/** docker-compose.yml and the image: what can be read of them, and, where an engine is, all of it running. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { checkout } from '../support/checkout.ts';
import { ComposeProject, missingCompose, readCompose } from '../support/compose.ts';
import { waitFor } from '../support/services.ts';
import { readRules } from '../support/alert-rules.ts';

const services = readCompose();

test('every port is on loopback, every service has a health check or ends, and no password is fixed', () => {
  const ports = Object.values(services).flatMap(({ ports = [] }) => ports);
  assert.ok(ports.length >= 7);
  assert.deepEqual(
    ports.filter((port) => !port.startsWith('127.0.0.1:')),
    [],
  );
  assert.deepEqual(
    Object.entries(services)
      .filter(([, { healthcheck }]) => healthcheck === undefined)
      .map(([name]) => name),
    [],
  );
  const text = readFileSync(`${checkout}docker-compose.yml`, 'utf8');
  const secrets = [...text.matchAll(/^ +\w*(?:PASS|PASSWORD|TOKEN): (\S+)$/gm)].map(([, value = '']) => value);
  assert.ok(secrets.length >= 2);
  assert.deepEqual(
    secrets.filter((value) => !value.startsWith('${')),
    [],
  );
  assert.deepEqual(text.match(/:\/\/[^$\s]*:[^$\s]*@/g), null, 'no URL has a login of its own');
});

test('the image is built in two stages, from what the lockfile says, and does not run as root', () => {
  const dockerfile = readFileSync(`${checkout}deploy/Dockerfile`, 'utf8');
  assert.equal(dockerfile.match(/^FROM /gm)?.length, 2);
  assert.match(dockerfile, /^RUN npm ci /m);
  assert.match(dockerfile, /npm prune --omit=dev/);
  assert.match(dockerfile, /^USER 1000:1000$/m);
  assert.match(dockerfile, /^HEALTHCHECK /m);
  assert.match(dockerfile, /^ENTRYPOINT \["node", /m);
});

test('docker compose up --wait brings everything up, and it works', async (t) => {
  const missing = missingCompose();
  if (missing !== null) return t.skip(missing);
  const project = await ComposeProject.prepare(t);
  await project.up();
  const { prometheus, grafana, workers } = project.address;

  await t.test('the workers are ready and apply what is published', async () => {
    for (const worker of workers) assert.equal((await fetch(`${worker}/readyz`)).status, 200);
    const applied = async () => (await Promise.all(workers.map(async (worker) => (await fetch(`${worker}/metrics`)).text()))).join('');
    await waitFor(async () => /inorder_events_total\{[^}]*outcome="applied"\} [1-9]/.test(await applied()), {
      what: 'events applied',
      timeoutMs: 60_000,
    });
  });

  await t.test(
    'Prometheus scrapes both workers and the broker, knows the rules and the Alertmanager, and Grafana has the dashboard',
    async () => {
      const get = async (path: string): Promise<any> =>
        ((await (await fetch(`${prometheus}/api/v1/${path}`)).json()) as { data: unknown }).data;
      const up = async () => (await get('targets')).activeTargets.filter(({ health }: { health: string }) => health === 'up');
      const targets = await waitFor(async () => ((found) => found.length === 3 && found)(await up()), {
        what: 'three targets up',
        timeoutMs: 90_000,
      });
      assert.deepEqual(targets.map(({ labels }: { labels: { job: string } }) => labels.job).sort(), [
        'inorder-worker',
        'inorder-worker',
        'rabbitmq',
      ]);
      const loaded = (await get('rules')).groups.flatMap(({ rules }: { rules: { name: string; type: string }[] }) => rules);
      const alerts = loaded.filter(({ type }: { type: string }) => type === 'alerting').map(({ name }: { name: string }) => name);
      assert.deepEqual(
        alerts.sort(),
        readRules()
          .alerts.map(({ alert }) => alert)
          .sort(),
      );
      await waitFor(async () => (await get('alertmanagers')).activeAlertmanagers.length === 1, {
        what: 'the Alertmanager',
        timeoutMs: 60_000,
      });
      assert.equal((await fetch(`${grafana}/api/health`)).status, 200);
    },
  );

  await t.test('a worker runs as nobody in particular, cannot write, and has nothing that only developers need', async () => {
    const [container = ''] = await project.containers('worker');
    const { Config, HostConfig } = await project.inspect(container);
    assert.deepEqual([Config.User, HostConfig.ReadonlyRootfs, HostConfig.CapDrop], ['1000:1000', true, ['ALL']]);
    await assert.rejects(project.exec(container, 'touch', '/inorder/x'), /Read-only file system/);
    assert.deepEqual((await project.exec(container, 'ls', '/inorder')).trim().split('\n'), [
      'LICENSE',
      'build',
      'node_modules',
      'package.json',
    ]);
    assert.equal(
      (
        await project.exec(
          container,
          'sh',
          '-c',
          'ls -d node_modules/typescript node_modules/testcontainers node_modules/tsx build/test 2>/dev/null || true',
        )
      ).trim(),
      '',
    );
  });

  await t.test('a stop reaches the worker, which finishes and ends with 0', async () => {
    const containers = await project.containers('worker');
    assert.equal(containers.length, 2);
    await project.stop('worker');
    for (const container of containers) {
      assert.equal((await project.inspect(container)).State.ExitCode, 0);
      assert.match(await project.logs(container), /"message":"stopped"\}\s*$/);
    }
  });
});
