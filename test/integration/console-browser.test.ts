/** The console's page as people use it, in a real Chromium; skipped where none is installed. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import type { Page } from 'playwright-core';
import { findChromium, openPage, useBrowser } from '../support/browser.ts';
import { adminToken, ConsoleClient } from '../support/console-client.ts';
import { useServices, waitFor } from '../support/services.ts';
import { StreamRun } from '../support/stream-run.ts';
import { readTraces, type TraceEvent } from '../support/trace.ts';

const executablePath = findChromium();
const skip = executablePath === null ? 'there is no chromium: install the package `chromium`' : false;
const desk = { viewport: { width: 1280, height: 800 } };
const phone = { viewport: { width: 360, height: 700 }, hasTouch: true, isMobile: true };
const hostile = '<img src=x onerror="document.title=`taken over`">';

const at = (entityId: string, ...sequences: number[]): TraceEvent[] => sequences.map((sequence) => ({ entityId, sequence }));

async function useStream(t: TestContext, name: string, variables: Readonly<Record<string, string>> = {}) {
  const services = await useServices(t);
  const run = new StreamRun(t, name, { ...services, variables: { GAP_TIMEOUT_MS: '500', ADMIN_TOKEN: adminToken, ...variables } });
  const { httpUrl } = await run.worker();
  const browser = await useBrowser(t, executablePath!);
  const trace = async (entityId: string) => (await readTraces(run.redisUrl, run.stream)).get(entityId);
  return { run, httpUrl, client: new ConsoleClient(httpUrl), browser, trace };
}

/** Types as a person does, without ever naming an element. */
async function press(page: Page, ...keys: string[]): Promise<void> {
  for (const key of keys) await page.keyboard.press(key);
}

const dialogText = (page: Page) => page.locator('dialog').innerText();

test('dead letters are found, opened and replayed with the keyboard alone', { skip }, async (t) => {
  const { run, httpUrl, client, browser, trace } = await useStream(t, 'page-replay');
  await run.publish([...at('a', 1, 2, 4, 5), ...at('b', 1, 3)]);
  await client.letters(3);
  await run.publish(at('a', 3));
  await waitFor(async () => (await trace('a'))?.version === 3, { what: 'the missing event' });
  const { page, complaints } = await openPage(browser, httpUrl, desk);
  await page.getByText('dead letters').first().waitFor();

  await press(page, '2');
  await page.getByText('3 in all').waitFor();
  await press(page, '/');
  await page.keyboard.type('a/');
  await page.getByText('2 found').waitFor();
  await press(page, 'Escape', 'j', 'Enter');
  await page.getByRole('heading', { name: 'a/4' }).waitFor();
  assert.match(await page.locator('main').innerText(), /A predecessor did not arrive/);
  await press(page, 'Escape');
  await page.getByText('2 found').waitFor();

  await press(page, 'r');
  await page.getByLabel('Token').waitFor();
  await page.keyboard.type('wrong');
  await press(page, 'Enter');
  await page.getByText('that is not a token of this server').waitFor();
  await press(page, 'Control+a');
  await page.keyboard.type(adminToken);
  await press(page, 'Enter');
  await page.getByRole('button', { name: 'Replay 2 messages' }).waitFor();
  assert.match(await dialogText(page), /2 replayable\.[\s\S]*trace a\s+3\s+4-5/);
  assert.equal(await run.ready(run.deadLetters), 3, 'a plan changes nothing');
  await press(page, 'Enter');
  await page.getByText('2 replayed; 1 of 1 entity recovered.').waitFor();
  await press(page, 'Enter');
  await page.locator('dialog').waitFor({ state: 'detached' });
  assert.deepEqual((await trace('a'))?.version, 5);

  await press(page, '4');
  await page.getByText('console 127.0.0.1').waitFor();
  assert.deepEqual(
    complaints.filter((text) => !text.includes('status of 401')),
    [],
  );
});

test('a message is discarded with the keyboard alone, with a reason, and not by one key too many', { skip }, async (t) => {
  const { run, httpUrl, client, browser } = await useStream(t, 'page-discard');
  await run.publish(at('a', 1, 3));
  const { letters } = await client.letters(1);
  const { page, complaints } = await openPage(browser, `${httpUrl}/#/letters/${letters[0].fingerprint}`, desk);
  await page.getByRole('heading', { name: 'a/3' }).waitFor();
  await press(page, 'u');
  await page.getByLabel('Token').waitFor();
  await page.keyboard.type(adminToken);
  await press(page, 'Enter');
  await page.getByRole('button', { name: 'Lock', exact: true }).waitFor();

  const plan = async () => {
    await press(page, 'd');
    await page.getByLabel('Why').waitFor();
    await press(page, 'Enter');
    assert.ok(await page.getByLabel('Why').isVisible(), 'nothing goes on without a reason');
    await page.keyboard.type('sent by mistake');
    await press(page, 'Enter');
    await page.getByRole('button', { name: 'Discard 1 message' }).waitFor();
  };
  await plan();
  await press(page, 'Enter');
  await page.locator('dialog').waitFor({ state: 'detached' });
  assert.equal(await run.ready(run.deadLetters), 1, 'Enter on the plan cancels');
  await plan();
  await press(page, 'Tab', 'Enter');
  await page.getByText('1 discarded.').waitFor();
  assert.equal(await run.ready(run.deadLetters), 0);
  const { entries } = await client.api('audit');
  assert.equal(entries[0].reason, 'sent by mistake');
  // Its own page asks for it once more.
  assert.deepEqual(
    complaints.filter((text) => !text.includes('status of 404')),
    [],
  );
});

test('what hostile producers send is text everywhere, and markup nowhere', { skip }, async (t) => {
  const { run, httpUrl, client, browser } = await useStream(t, 'page-hostile');
  const channel = await run.channel();
  const event = (sequence: number) =>
    JSON.stringify({
      id: `${hostile}${sequence}`,
      entity_type: hostile,
      entity_id: hostile,
      sequence,
      type: hostile,
      data: { hostile, close: '</pre><script>document.title="taken over"</script>' },
    });
  for (const sequence of [1, 3])
    channel.publish(run.stream, hostile, Buffer.from(event(sequence)), {
      contentType: 'application/json',
      headers: { [hostile]: hostile },
    });
  channel.publish(run.stream, hostile, Buffer.from(hostile), { contentType: hostile, messageId: hostile });
  await channel.waitForConfirms();
  const { letters } = await client.letters(2);
  const entity = `#/entity?${new URLSearchParams({ type: hostile, id: hostile })}`;
  const { page, complaints } = await openPage(browser, httpUrl, desk);
  await page.getByRole('button', { name: 'Unlock', exact: true }).waitFor();
  await press(page, 'u');
  await page.keyboard.type(adminToken);
  await press(page, 'Enter');
  await page.getByRole('button', { name: 'Lock', exact: true }).waitFor();
  for (const address of [
    '#/letters',
    '#/letters?by=type',
    '#/letters?by=entity',
    `#/letters?${new URLSearchParams({ words: hostile, type: hostile })}`,
    entity,
    '#/parked',
    ...letters.map(({ fingerprint }: any) => `#/letters/${fingerprint}`),
  ]) {
    await page.goto(`${httpUrl}/${address}`);
    await page.locator('main').getByText('<img src=x').first().waitFor();
    if (/letters\/\w{32}$/.test(address)) {
      await press(page, 'p');
      await page.locator('pre.body').waitFor();
      assert.ok((await page.locator('pre.body').innerText()).includes('<img src=x'), address);
    }
    assert.equal(await page.locator('img:not([src="console/icon.svg"]), script:not([src="console/main.js"])').count(), 0, address);
    assert.doesNotMatch(await page.title(), /taken over/, address);
  }
  await page.goto(`${httpUrl}/#/letters`);
  await press(page, 'r');
  await page.locator('dialog').getByText('<img src=x').first().waitFor();
  assert.equal(await page.locator('dialog img').count(), 0);
  assert.deepEqual(complaints, []);
});

test('beyond loopback the page shows nothing until it is unlocked, with the keyboard alone', { skip }, async (t) => {
  const { run, httpUrl, browser } = await useStream(t, 'page-locked', { HTTP_HOST: '0.0.0.0', READ_TOKEN: 'a-token-to-read-with' });
  const { page } = await openPage(browser, httpUrl, desk);
  await page.getByText('it shows nothing without a token').waitFor();
  assert.ok(!(await page.locator('body').innerText()).includes(run.stream));
  const give = async (token: string) => {
    await page.getByLabel('Token').waitFor();
    await press(page, 'Control+a');
    await page.keyboard.type(token);
    await press(page, 'Enter');
  };
  await press(page, 'u');
  await give('a-token-to-read-with');
  await page.getByRole('heading', { name: 'Shards' }).waitFor();
  assert.match(await page.locator('body').innerText(), new RegExp(run.stream));
  await press(page, 'u');
  await give('a-token-to-read-with');
  await page.getByText('that is the token of a viewer').waitFor();
  await give(adminToken);
  await page.getByRole('button', { name: 'Lock', exact: true }).waitFor();
});

test('whom a proxy names is shown, and has nothing to unlock', { skip }, async (t) => {
  const proxy = { TRUSTED_USER_HEADER: 'X-User', TRUSTED_PROXIES: '127.0.0.1', TRUSTED_OPERATORS: 'carol' };
  const { run, httpUrl, client, browser } = await useStream(t, 'page-proxy', proxy);
  await run.publish(at('a', 1, 3));
  await client.letters(1);
  const { page } = await openPage(browser, `${httpUrl}/#/letters`, { ...desk, extraHTTPHeaders: { 'x-user': 'carol' } });
  await page.locator('.access').getByText('carol').waitFor();
  assert.equal(await page.getByRole('button', { name: /^(Lock|Unlock)$/ }).count(), 0);
  await page.getByText('1 in all').waitFor();
  await press(page, 'r');
  await page.locator('dialog').getByText('0 replayable').waitFor();
});

test('what happens is shown without reloading, and nobody asks while the page is hidden', { skip }, async (t) => {
  const { run, httpUrl, browser } = await useStream(t, 'page-live', { GAP_TIMEOUT_MS: '3000' });
  const { page, complaints } = await openPage(browser, httpUrl, desk);
  await page.getByText('No event waits for a predecessor.').waitFor();
  await run.publish(at('a', 1, 3));
  await page.locator('.gaps').getByText('trace a').waitFor();
  await page.locator('.gaps a').click();
  await page.locator('.timeline .held').getByText('3').waitFor();
  await page.locator('.timeline .dead-lettered').getByText('gap_timeout').waitFor();

  let requests = 0;
  page.on('request', () => requests++);
  await page.evaluate(
    "Object.defineProperty(document, 'hidden', { get: () => true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))",
  );
  await page.waitForTimeout(300);
  requests = 0;
  await page.waitForTimeout(2_500);
  assert.equal(requests, 0);
  await page.evaluate(
    "Object.defineProperty(document, 'hidden', { get: () => false, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))",
  );
  await waitFor(() => requests > 0, { what: 'the page asking again' });
  assert.deepEqual(complaints, []);
});

test('every page fits a phone without scrolling sideways, in light and in dark', { skip }, async (t) => {
  const { run, httpUrl, client, browser } = await useStream(t, 'page-phone', { GAP_TIMEOUT_MS: '1000' });
  const long = 'a-very-long-name-'.repeat(12);
  await run.publish([...at(long, 1, 2, 5, 9), ...at('b', 1, 3)]);
  const { letters } = await client.letters(3);
  const colours: string[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page, complaints } = await openPage(browser, httpUrl, { ...phone, colorScheme });
    for (const address of [
      '#/',
      '#/letters',
      '#/letters?by=entity',
      `#/letters/${letters[0].fingerprint}`,
      `#/entity?${new URLSearchParams({ type: 'trace', id: long })}`,
      '#/parked',
      '#/audit',
    ]) {
      await page.goto(`${httpUrl}/${address}`);
      await page.locator('main section, main table, main .nothing').first().waitFor();
      const width = await page.evaluate('document.documentElement.scrollWidth');
      assert.equal(width, 360, `${address} in ${colorScheme}`);
    }
    colours.push(String(await page.evaluate('getComputedStyle(document.documentElement).backgroundColor')));
    assert.deepEqual(complaints, []);
  }
  assert.notEqual(colours[0], colours[1]);
});

test('text can be told from its background, in light and in dark', { skip }, async (t) => {
  const { run, httpUrl, client, browser } = await useStream(t, 'page-contrast');
  await run.publish(at('a', 1, 2, 4));
  await client.letters(1);
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page } = await openPage(browser, httpUrl, { ...desk, colorScheme });
    for (const address of ['#/', '#/letters', '#/entity?type=trace&id=a']) {
      await page.goto(`${httpUrl}/${address}`);
      await page.locator('main section').first().waitFor();
      const faint: unknown = await page.evaluate(faintTexts);
      assert.deepEqual(faint, [], `${address} in ${colorScheme}`);
    }
  }
});

/** Texts with less contrast than the 4.5 to 1 that is asked of small text; what cannot be used may be fainter. */
const faintTexts = `(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((part) => { const v = part / 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = [...document.querySelectorAll('#console *')].filter((element) =>
    !element.closest('button:disabled, .unseen, .skip') && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== ''));
  return texts.flatMap((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    return contrast < 4.5 ? [element.textContent.trim().slice(0, 30) + ': ' + contrast.toFixed(2)] : [];
  });
})()`;
