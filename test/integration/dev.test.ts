import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { freePort } from '../../deploy/local/free-port.ts';
import { removeStream } from '../../deploy/local/stream-removal.ts';
import { checkout } from '../support/checkout.ts';
import { uniqueStream, useServices, waitFor } from '../support/services.ts';
import { environment } from '../support/worker-process.ts';

/** A checkout whose sources may be changed. */
function copyOfTheCheckout(t: TestContext): string {
  const copy = mkdtempSync(join(tmpdir(), 'inorder-checkout-'));
  t.after(() => rmSync(copy, { recursive: true, force: true }));
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json', 'src', 'deploy/local']) {
    cpSync(join(checkout, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(checkout, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

async function end(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  return child.exitCode;
}

test('npm run dev starts a worker, restarts it when a source or a script changes, and ends it in order', async (t) => {
  const services = await useServices(t);
  const copy = copyOfTheCheckout(t);
  const stream = uniqueStream();
  const env = environment({
    AMQP_URL: services.amqpUrl,
    REDIS_URL: services.redisUrl,
    STREAM: stream,
    SHARDS: '1',
    HTTP_PORT: String(await freePort()),
    LOG_LEVEL: 'info',
  });
  const child = spawn(process.execPath, ['deploy/local/bootstrap.mjs', 'dev'], { cwd: copy, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const out of [child.stdout, child.stderr]) out.setEncoding('utf8').on('data', (text: string) => void (output += text));
  t.after(async () => {
    child.kill('SIGKILL');
    await removeStream(services, stream, 1);
  });
  const timesSaid = (message: string) => output.split(`"message":"${message}"`).length - 1;
  const ready = async (times: number) => {
    const isReady = () => child.exitCode !== null || timesSaid('ready') === times;
    await waitFor(isReady, { what: `worker number ${times}, ready` }).catch((error: Error) => assert.fail(`${error.message}\n${output}`));
    assert.equal(child.exitCode, null, output);
  };

  await ready(1);
  appendFileSync(join(copy, 'src/events/event.ts'), '\n');
  await ready(2);
  appendFileSync(join(copy, 'src/stores/redis/scripts/relay-1.lua'), '\n');
  await ready(3);
  assert.equal(timesSaid('stopped'), 2, 'each was asked to end, and did so in order');
  assert.equal(await end(child), 0, output);
  assert.equal(timesSaid('stopped'), 3);
});
