/** docker-compose.yml and the image: what can be read of them, and, where an engine is, all of it running. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { checkout } from '../support/checkout.ts';
import { ComposeProject, imagesNeeded, missingCompose, readCompose } from '../support/compose.ts';
import { readManifests } from '../support/kubernetes.ts';
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

test('every service comes back by itself, is limited in memory and processes, and gains no rights', () => {
  for (const [name, { restart, mem_limit, pids_limit = 0, security_opt }] of Object.entries(services)) {
    assert.equal(restart, name === 'topology' ? 'on-failure' : 'unless-stopped', name);
    assert.match(mem_limit ?? '', /^\d+[mg]$/, name);
    assert.ok(pids_limit > 0, name);
    assert.deepEqual(security_opt, ['no-new-privileges:true'], name);
  }
});

test('what shows without a login reaches neither broker nor store', () => {
  assert.deepEqual(
    Object.entries(services).flatMap(([name, { networks }]) => (networks?.includes('default') === false ? [name] : [])),
    ['alertmanager', 'grafana'],
  );
});

test('a worker has the memory that it has on Kubernetes', () => {
  const [set] = readManifests('base/statefulset.yaml');
  const [{ env, resources }] = set!.spec.template.spec.containers;
  const { mem_limit, environment } = services['worker']!;
  assert.equal(mem_limit, resources.limits.memory.replace('Mi', 'm'));
  assert.equal(environment?.['NODE_OPTIONS'], env.find(({ name }: { name: string }) => name === 'NODE_OPTIONS').value);
});

test('every image is an exact version, the same one wherever it is named', () => {
  const images = imagesNeeded();
  assert.equal(images.size, 6);
  const texts = ['docker-compose.yml', 'deploy/Dockerfile', 'test/support/standin-images.sh'].map((path) =>
    readFileSync(checkout + path, 'utf8'),
  );
  for (const [variable, image] of images) {
    assert.match(image, /:v?\d+\.\d+\.\d+(-[a-z-]+)?$/);
    const named = texts.join('').matchAll(new RegExp(`\\b${variable}(?::-|=)([^}\\s]+)`, 'g'));
    assert.deepEqual(new Set([...named].map(([, given]) => given)), new Set([image]));
  }
});

test('the image is built in two stages, from what the lockfile says, and does not run as root', () => {
  const dockerfile = readFileSync(`${checkout}deploy/Dockerfile`, 'utf8');
  assert.equal(dockerfile.match(/^FROM /gm)?.length, 2);
  assert.match(dockerfile, /^RUN npm ci /m);
  assert.match(dockerfile, /npm prune --omit=dev/);
  assert.match(dockerfile, /^USER 1000:1000$/m);
  assert.match(dockerfile, /^HEALTHCHECK /m);
  assert.match(dockerfile, /^ENTRYPOINT \["node", /m);
  const { version } = JSON.parse(readFileSync(`${checkout}package.json`, 'utf8')) as { version: string };
  assert.ok(dockerfile.includes(`image.version="${version}"`));
});

test('what the image is built from is let through to the engine', () => {
  const dockerfile = readFileSync(`${checkout}deploy/Dockerfile`, 'utf8');
  const copied = [...dockerfile.matchAll(/^COPY (?!--)(.+) \S+$/gm)].flatMap(([, paths = '']) => paths.split(' '));
  const allowed = [...readFileSync(`${checkout}.dockerignore`, 'utf8').matchAll(/^!(.+)$/gm)].map(([, path]) => path);
  assert.deepEqual([...new Set(copied)].sort(), allowed.sort());
});

test('the bill of materials names every package of an installation, and nothing else', () => {
  const npm = (...words: readonly string[]) => spawnSync('npm', words, { cwd: checkout, encoding: 'utf8' }).stdout;
  const { bomFormat, metadata, components } = JSON.parse(npm('run', '-s', 'sbom')) as {
    bomFormat: string;
    metadata: { component: { name: string } };
    components: { name: string; version: string }[];
  };
  const [, ...installed] = npm('ls', '--all', '--omit=dev', '--parseable', '--long').trim().split('\n');
  assert.deepEqual([bomFormat, metadata.component.name], ['CycloneDX', 'inorder']);
  assert.deepEqual(
    components.map(({ name, version }) => `${name}@${version}`).sort(),
    installed.map((line) => line.slice(line.indexOf(':') + 1)).sort(),
  );
});

test('docker compose up --wait brings everything up, and it works', async (t) => {
  const missing = missingCompose();
  if (missing !== null) return t.skip(missing);
  const project = await ComposeProject.prepare(t);
  await project.up();
  const { prometheus, grafana, workers } = project.address;
  const isReady = async (worker: string) => (await fetch(`${worker}/readyz`)).status === 200;
  const applied = async () => {
    const texts = await Promise.all(workers.map(async (worker) => (await fetch(`${worker}/metrics`)).text()));
    const counts = [...texts.join('').matchAll(/^inorder_events_total\{[^}]*outcome="applied"\} (\d+)$/gm)];
    return counts.reduce((sum, [, count]) => sum + Number(count), 0);
  };

  await t.test('the workers are ready and apply what is published', async () => {
    for (const worker of workers) assert.ok(await isReady(worker));
    await waitFor(async () => (await applied()) > 0, { what: 'events applied', timeoutMs: 60_000 });
  });

  await t.test('the engine has what the file says: limits, restarts, no new rights, ports on loopback alone', async () => {
    const bytes = (size = '') => Number.parseInt(size, 10) * (size.endsWith('g') ? 2 ** 30 : 2 ** 20);
    for (const [name, { restart, mem_limit, pids_limit, security_opt, ports = [] }] of Object.entries(services)) {
      for (const container of await project.containers(name)) {
        const { HostConfig: host, State: state } = await project.inspect(container);
        assert.deepEqual(
          [host.RestartPolicy.Name, host.Memory, host.PidsLimit, host.SecurityOpt],
          [restart, bytes(mem_limit), pids_limit, security_opt],
          name,
        );
        const addresses = Object.values<{ HostIp: string }[]>(host.PortBindings ?? {}).flat();
        assert.deepEqual(
          [addresses.length, new Set(addresses.map(({ HostIp }) => HostIp)).size],
          [ports.length, Math.min(1, ports.length)],
          name,
        );
        assert.ok(
          addresses.every(({ HostIp }) => HostIp === '127.0.0.1'),
          name,
        );
        assert.equal(state.Health?.Status, name === 'topology' ? undefined : 'healthy', name);
      }
    }
  });

  await t.test('what shows without a login does not even find broker and store', async () => {
    const [alertmanager = ''] = await project.containers('alertmanager');
    const reach = (url: string) => project.exec(alertmanager, 'wget', '-q', '-T', '3', '-t', '1', '-O', '/dev/null', url);
    await reach('http://prometheus:9090/-/ready');
    for (const url of ['http://rabbitmq:15692/metrics', 'http://redis:6379/', 'http://worker:9464/healthz'])
      await assert.rejects(reach(url), url);
  });

  await t.test('the image says what it is, and its worker is well while it waits for its broker', async () => {
    const [worker = ''] = await project.containers('worker');
    const { Labels, User } = (await project.inspect((await project.inspect(worker)).Image)).Config;
    const { version } = JSON.parse(readFileSync(`${checkout}package.json`, 'utf8')) as { version: string };
    const label = (name: string): string => Labels[`org.opencontainers.image.${name}`];
    assert.deepEqual(['title', 'version', 'revision', 'licenses'].map(label), ['Inorder', version, 'unknown', 'MIT']);
    assert.deepEqual([label('base.name'), User], [`docker.io/library/${imagesNeeded().get('NODE_IMAGE')}`, '1000:1000']);
    const alone = await project.run(t, '--read-only', '--network', 'none', '--health-interval', '1s');
    await waitFor(async () => (await project.inspect(alone)).State.Health.Status === 'healthy', {
      what: 'a worker without a broker to be well',
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
      'sbom.cdx.json',
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

  await t.test('what ends without being told to comes back by itself, all of it at once, and events are applied again', async () => {
    const lasting = Object.entries(services).flatMap(([name, { restart }]) => (restart === 'unless-stopped' ? [name] : []));
    const containers = (await Promise.all(lasting.map((name) => project.containers(name)))).flat();
    assert.equal(containers.length, lasting.length + 1);
    // From inside, where nothing kills the first process: an engine takes what comes through it for the wish of an operator.
    await Promise.all(containers.map((container) => project.exec(container, 'sh', '-c', 'kill -9 -1; kill 1').catch(() => undefined)));
    for (const container of containers) {
      const isBack = async () => {
        const { RestartCount, State } = await project.inspect(container);
        return RestartCount === 1 && State.Health.Status === 'healthy';
      };
      await waitFor(isBack, { what: `${(await project.inspect(container)).Name} to come back` });
    }
    await waitFor(async () => (await applied()) > 0, { what: 'events applied again' });
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
