import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { FakeHost } from './support/fake-host.js';
import * as hostile from './support/hostile-page.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { originOf, ProjectSites, type Site } from './support/project-sites.js';
import { TestHub } from './support/test-hub.js';
import { TlsTerminator } from './support/tls-terminator.js';

/**
 * The worst neighbourhood that an operator can choose: the hub and all projects are one site to a
 * browser, and a project may set cookies for the hub's own name. Mallory's page is public; the
 * visitor is the administrator.
 */
let postgres: TestPostgres;
let tls: TlsTerminator;
let hub: TestHub;
let host: FakeHost;
let sites: ProjectSites;
let browser: Browser;
let mallory: { token: string; accountId: string };
let evil: Site;
let bank: Site;
let hubUrl: string;

const secret = 'the balance is 42';
const accept = 'text/html';

beforeAll(async () => {
  postgres = await startPostgres();
  tls = await TlsTerminator.start();
  hubUrl = `https://rookery.localhost:${tls.port}`;
  hub = await TestHub.start(postgres.url, {
    ROOKERY_PUBLIC_URL: hubUrl,
    ROOKERY_APPS_URL: `https://*.rookery.localhost:${tls.port}`,
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  });
  tls.target = hub.port;
  host = await FakeHost.join({ name: 'h1', hubUrl: hub.url, joinToken: await hub.joinToken() });
  sites = await ProjectSites.open(hub, host);
  mallory = await hub.createAccount('mallory@example.org');
  evil = await sites.add(hostile.site, { public: true, token: mallory.token });
  bank = await sites.add((_req, res) => {
    res.setHeader('set-cookie', 'bank=open; Path=/; SameSite=None; Secure');
    res.setHeader('content-type', 'text/html').end(`<h1>${secret}</h1>`);
  });
  browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--ignore-certificate-errors'],
  });
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await sites?.close();
  await host?.disconnect();
  await hub?.close();
  await tls?.close();
  await postgres?.close();
});

const newContext = (): Promise<BrowserContext> => browser.newContext({ ignoreHTTPSErrors: true });

async function ticketOf(token: string, next: string): Promise<string> {
  const body = { next };
  return (await hub.ok<{ url: string }>('POST', '/login-tickets', { token, body })).url;
}

/** A tab of somebody who has signed in and looks at his own project. */
async function visitor(token = hub.admin.token): Promise<{ context: BrowserContext; page: Page }> {
  const context = await newContext();
  const page = await context.newPage();
  const path = `/${bank.project.id}/port/${bank.port}/`;
  await page.goto(await ticketOf(token, path));
  expect(page.url()).toBe(`${originOf(bank)}/`);
  expect(await page.textContent('h1')).toBe(secret);
  return { context, page };
}

/** What Mallory would like to have changed. */
async function state() {
  const keys = await hub.ok<{ items: unknown[] }>('GET', '/api-keys');
  const mine = bank.seen.length;
  return { keys: keys.items.length, requests: mine };
}

const who = async (context: BrowserContext): Promise<string> => {
  const page = await context.newPage();
  await page.goto(`${hubUrl}/`);
  const span = page.locator('header span');
  const name = (await span.count()) > 0 ? await span.textContent() : 'nobody';
  await page.close();
  return name?.trim() ?? '';
};

describe('a project’s page in a browser', () => {
  it('has an origin of its own, and cookies that the project never sees', async () => {
    const { context, page } = await visitor();
    const cookies = await context.cookies();
    expect(
      cookies.map(({ name, domain, path, httpOnly, secure }) => ({
        name,
        domain,
        path,
        httpOnly,
        secure,
      })),
    ).toEqual(
      expect.arrayContaining([
        {
          name: '__Host-rookery_session',
          domain: 'rookery.localhost',
          path: '/',
          httpOnly: true,
          secure: true,
        },
        {
          name: '__Host-rookery_app',
          domain: new URL(originOf(bank)).hostname,
          path: '/',
          httpOnly: true,
          secure: true,
        },
      ]),
    );
    await page.goto(`${originOf(bank)}/deep/path?a=b`);
    const last = bank.seen.at(-1);
    expect(last).toMatchObject({ url: '/deep/path?a=b', cookie: 'bank=open' });
    expect(last?.headers).toMatchObject({
      host: new URL(originOf(bank)).host,
      'x-forwarded-proto': 'https',
      'x-forwarded-for': expect.stringMatching(/^127\.0\.0\.1, /),
    });
    expect(JSON.stringify(bank.seen)).not.toMatch(/rookery_|origin_|session_|state_/);
    await context.close();
  });

  it('reads and changes nothing elsewhere with requests and forms', async () => {
    const { context, page } = await visitor();
    await page.goto(`${originOf(evil)}/`);
    const before = await state();
    const targets = hostile.targetsOf(hubUrl, bank);
    const read = await page.evaluate(hostile.fetchAll, targets);
    expect(read.filter(({ text }) => text !== '')).toEqual([]);
    expect(read).toHaveLength(targets.length * 4);
    await page.evaluate(hostile.submitForms, targets);
    await waitFor('the last form is answered', () => hostile.isDone(page), { timeoutMs: 20_000 });
    expect(await state()).toEqual(before);
    expect(await who(context)).toBe('admin@localhost');
    await context.close();
  }, 60_000);

  it('frames nobody, holds no window of the hub’s, and reads none', async () => {
    const { context, page } = await visitor();
    await page.goto(`${originOf(evil)}/`);
    const before = await state();
    const targets = hostile.targetsOf(hubUrl, bank);
    const frames = await page.evaluate(hostile.frameAll, targets);
    expect(frames.filter(({ read }) => read !== null)).toEqual([]);
    expect(await state()).toEqual(before);
    const opened = context.waitForEvent('page');
    const popup = page.evaluate(hostile.openWindow, `${hubUrl}/`);
    await (await opened).waitForLoadState();
    expect(await popup).toBe('closed');
    // Another project opens in a tab as from any link, and is as closed as any other site.
    expect(await page.evaluate(hostile.openWindow, `${originOf(bank)}/`)).toBe('out of reach');
    await context.close();
  }, 60_000);

  it('opens no WebSocket with the visitor’s rights', async () => {
    const { context, page } = await visitor();
    await page.goto(`${originOf(evil)}/`);
    const before = await state();
    const said = await page.evaluate(hostile.openSockets, [
      `${originOf(bank)}/ws`,
      `${hubUrl}/${bank.project.id}/port/${bank.port}/ws`,
      `${hubUrl}/hosts/${host.hostId}/conat`,
      `${hubUrl}/conat`,
    ]);
    expect(said.slice(0, 3)).toEqual(['refused', 'refused', 'refused']);
    expect(said[3]).toMatch(/Authorization Violation/);
    expect(await state()).toEqual(before);
    // Its own are as usual.
    expect(await page.evaluate(hostile.openSockets, [`${originOf(evil)}/ws`])).toEqual(['CONNECT']);
    await page.goto(`${originOf(bank)}/`);
    expect(await page.evaluate(hostile.openSockets, [`${originOf(bank)}/ws`])).toEqual(['CONNECT']);
    await context.close();
  });

  it('tosses no cookie in the place of the hub’s or another project’s', async () => {
    const { context, page } = await visitor();
    const theirs = await hostile.sessionOf(hub.url, mallory.token, hubUrl);
    await page.goto(`${originOf(evil)}/toss?${new URLSearchParams({ value: theirs }).toString()}`);
    await page.evaluate(hostile.toss, theirs);
    const strange = (await context.cookies()).filter(({ value }) => value === theirs);
    // What a browser takes for the whole domain has none of the names that count.
    expect(strange.map(({ name }) => name).filter((name) => name.startsWith('__Host-'))).toEqual(
      [],
    );
    expect(strange.length).toBeGreaterThan(0);
    expect(await who(context)).toBe('admin@localhost');
    await page.goto(`${originOf(bank)}/`);
    expect(await page.textContent('h1')).toBe(secret);
    await context.close();
  });

  it('signs nobody in as somebody else', async () => {
    const { context, page } = await visitor();
    await page.goto(`${originOf(evil)}/`);
    await page.evaluate(hostile.follow, await ticketOf(mallory.token, '/'));
    await page.waitForURL(`${hubUrl}/login?**`);
    expect(await page.textContent('body')).toMatch(/Another page has led here/);
    expect(await who(context)).toBe('admin@localhost');
    await context.close();

    // Mallory may see the bank now, and sends a link that would finish a sign-in of hers.
    await hub.ok('PUT', `/projects/${bank.project.id}/collaborators/${mallory.accountId}`, {
      body: { role: 'viewer' },
    });
    const session = await hostile.sessionOf(hub.url, mallory.token, hubUrl);
    const query = { project: bank.project.id, port: String(bank.port), next: '/' };
    const state = `state_${'s'.repeat(43)}`;
    const asked = await fetch(
      `${hub.url}/open?${new URLSearchParams({ ...query, state }).toString()}`,
      {
        redirect: 'manual',
        headers: { cookie: `__Host-rookery_session=${session}`, accept },
      },
    );
    const link = asked.headers.get('location')!;
    expect(link).toMatch(/^https:.*\/\.rookery\/session\?code=code_/);
    const clean = await newContext();
    const answer = await (await clean.newPage()).goto(link);
    expect(answer?.status()).toBe(401);
    expect(await clean.cookies()).toEqual([]);
    await clean.close();
    await hub.ok('DELETE', `/projects/${bank.project.id}/collaborators/${mallory.accountId}`);
  });

  it('gets no service worker but its own, and no page on the hub’s origin', async () => {
    const { context, page } = await visitor();
    const path = `${hubUrl}/${evil.project.id}/port/${evil.port}/deep?x=1`;
    await page.goto(path);
    expect(page.url()).toBe(`${originOf(evil)}/deep?x=1`);
    const workers = [`${originOf(bank)}/sw.js`, `${path}/sw.js`, `${originOf(evil)}/sw.js`];
    const registered = await page.evaluate(hostile.registerWorkers, workers);
    expect(registered).toEqual(['SecurityError', 'SecurityError', 'registered']);
    // A program gets the answer there; no browser would run what is in it.
    const headers = { authorization: `Bearer ${hub.admin.token}` };
    const raw = await fetch(path.replace(hubUrl, hub.url), { headers });
    expect([raw.status, raw.headers.get('content-security-policy')]).toEqual([200, 'sandbox']);
    await context.close();
  });
});

describe('a sign-in to a project', () => {
  it('ends with the hub’s session, for open connections, too', async () => {
    const { context, page } = await visitor();
    await page.evaluate(hostile.holdSocket, `${originOf(bank)}/ws`);
    const out = await context.newPage();
    await out.goto(`${hubUrl}/`);
    await out.click('text=Sign out');
    await page.waitForFunction('window.held === "closed"');
    expect(await page.evaluate('fetch("/").then((answer) => answer.status)')).toBe(401);
    await page.reload();
    expect(new URL(page.url()).pathname).toBe('/login');
    await context.close();
  });

  it('ends with the right to the project', async () => {
    const guest = await hub.createAccount('guest@example.org');
    const collaborator = `/projects/${bank.project.id}/collaborators/${guest.accountId}`;
    await hub.ok('PUT', collaborator, { body: { role: 'viewer' } });
    const { context, page } = await visitor(guest.token);
    await hub.ok('DELETE', collaborator);
    const status = (): Promise<unknown> =>
      page.evaluate('fetch("/").then((answer) => answer.status)');
    await waitFor('the way is closed', async () => (await status()) === 403, { timeoutMs: 20_000 });
    await context.close();
  });

  it('begins with a pasted token, too, and leads back to the path', async () => {
    const context = await newContext();
    const page = await context.newPage();
    await page.goto(`${originOf(bank)}/deep?a=1`);
    expect(new URL(page.url()).pathname).toBe('/login');
    await page.fill('input[name=token]', hub.admin.token);
    await page.click('text=Sign in >> nth=-1');
    await page.waitForURL(`${originOf(bank)}/deep?a=1`);
    expect(await page.textContent('h1')).toBe(secret);
    const stranger = await context.newPage();
    expect((await stranger.goto(`https://nobody.rookery.localhost:${tls.port}/`))?.status()).toBe(
      404,
    );
    await context.close();
  });
});
