import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { ProjectView } from '@rookery/api';
import { Cluster } from '@rookery/harness';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser } from 'playwright-core';

/** What a person sees in a browser. */
describe('in a browser', () => {
  let cluster: Cluster;
  let browser: Browser;
  let profile: string;
  let project: ProjectView;

  beforeAll(async () => {
    cluster = await Cluster.start({ hosts: 1 });
    const { items } = await cluster.client.listProjects({ name: 'hello' });
    project = items[0] as ProjectView;
    profile = await mkdtemp(join(tmpdir(), 'rookery-browser-'));
    browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
  }, 300_000);

  afterAll(async () => {
    await browser?.close();
    await rm(profile, { recursive: true, force: true });
    await cluster?.destroy();
  }, 240_000);

  test('a one-time link signs in and shows the project’s page; a second use does not', async () => {
    const next = `${new URL(project.url).pathname}8080/`;
    const { url } = await cluster.client.createLoginTicket({ next });
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(url);
    // At an origin of its own, which the machine's browsers resolve by themselves.
    const { port } = new URL(cluster.client.url);
    expect(page.url()).toBe(`http://8080--${project.id}.localhost:${port}/`);
    expect(page.url()).toBe(project.appUrl?.replace('{port}', '8080'));
    expect(await page.textContent('h1')).toMatch(/hello/i);
    expect(await page.evaluate('document.cookie')).not.toContain('rookery');
    expect((await page.goto(page.url()))?.status()).toBe(200);
    const stranger = await (await browser.newContext()).newPage();
    const answer = await stranger.goto(url);
    expect(answer?.status()).not.toBe(200);
  });

  test('a stopped project and a dead port say what to do', async () => {
    const { url } = await cluster.client.createLoginTicket({ next: '/' });
    const page = await (await browser.newContext()).newPage();
    await page.goto(url);
    const dead = await page.goto(`${project.url}9/`);
    expect(dead?.status()).toBe(502);
    expect(await page.textContent('body')).toContain('9');
    const stopped = await cluster.client.stopProject({ projectId: project.id });
    await cluster.client.waitForOperation(stopped.operation.id);
    const answer = await page.goto(`${project.url}8080/`);
    expect(answer?.status()).toBe(503);
    expect(await page.textContent('body')).toMatch(/not running.*Start it/s);
  });
});
