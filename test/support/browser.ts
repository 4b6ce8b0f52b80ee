/** A headless Chromium for tests, where one is installed. What the page complains of is kept: a test says that it is nothing. */
import { existsSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** Null: there is none. */
export function findChromium(): string | null {
  const folders = (process.env['PATH'] ?? '').split(':');
  return folders.flatMap((folder) => names.map((name) => `${folder}/${name}`)).find((path) => existsSync(path)) ?? null;
}

export interface OpenPage {
  readonly page: Page;
  /** Errors of the page, refusals by its policy, and requests to anybody else. */
  readonly complaints: readonly string[];
}

export async function useBrowser(t: TestContext, executablePath: string): Promise<Browser> {
  // As root, as in most containers, Chromium does not start its sandbox; it loads nothing but the test's own page.
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  t.after(() => browser.close());
  return browser;
}

export async function openPage(browser: Browser, url: string, options: BrowserContextOptions): Promise<OpenPage> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) complaints.push(`a request to ${request.url()}`);
  });
  await page.goto(url);
  return { page, complaints };
}
