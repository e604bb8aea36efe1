import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { access } from 'node:fs/promises';
import { chromium, type Browser } from 'playwright-core';
import { natsServerMissing } from '@rookery/conat/testing';
import { serveBrowserPage } from './support/browser-page.js';
import { coreScenarios, jetStreamScenarios, linesOf } from './support/scenarios.js';
import { conatRoot, natsServer, type InteropServer } from './support/targets.js';

const executablePath = '/usr/bin/chromium';
const noChromium = access(executablePath).then(
  () => undefined,
  () => `there is no ${executablePath}`,
);
const scenarios = [...coreScenarios, ...jetStreamScenarios];
const missing = (await natsServerMissing()) ?? (await noChromium);
const describeIf = missing === undefined ? describe : describe.skip;

describeIf(`the JS client in a real browser${missing ? ` — ${missing}` : ''}`, () => {
  const servers: InteropServer[] = [];
  let browser: Browser;
  let conat: string[];
  let oracle: string[];
  let page: Awaited<ReturnType<typeof serveBrowserPage>>;

  beforeAll(async () => {
    servers.push(await conatRoot(), await natsServer());
    page = await serveBrowserPage();
    browser = await chromium.launch({
      executablePath,
      args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
    });
    [conat, oracle] = (await Promise.all(servers.map(runInBrowser))) as [string[], string[]];
  });
  afterAll(async () => {
    await browser?.close();
    await page?.close();
    await Promise.all(servers.map((server) => server.close()));
  });

  async function runInBrowser(server: InteropServer): Promise<string[]> {
    const transcript: string[] = [];
    const context = await browser.newContext();
    const tab = await context.newPage();
    await tab.exposeFunction('print', (line: string) => void transcript.push(line));
    await tab.exposeFunction('ask', () => server.restart());
    await tab.goto(page.url);
    await tab.evaluate(
      `import('/scenarios.mjs').then(({ runScenarios }) => runScenarios(
        ${JSON.stringify(scenarios)}, libraries, ${JSON.stringify(server.target)}, { print, ask }))`,
    );
    await context.close();
    return transcript;
  }

  it.each(scenarios)('%s', (scenario) => {
    const expected = linesOf(scenario, oracle);
    expect(expected.at(-1)).toBe(`${scenario}: end`);
    expect(linesOf(scenario, conat)).toEqual(expected);
  });
});
