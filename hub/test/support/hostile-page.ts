/// <reference lib="dom" />
/* What Mallory's page does. Functions here run in the browser: they use nothing from outside. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Page } from 'playwright-core';
import { originOf, type Site } from './project-sites.js';

/** The service behind the page: HTML everywhere, a worker, and cookies for the whole domain. */
export function site(req: IncomingMessage, res: ServerResponse): void {
  const url = new URL(req.url ?? '/', 'http://evil');
  if (url.pathname.endsWith('/sw.js')) {
    res.setHeader('service-worker-allowed', '/');
    res.setHeader('content-type', 'text/javascript').end('');
    return;
  }
  if (url.pathname === '/toss') {
    const value = url.searchParams.get('value') ?? '';
    const names = ['rookery_session', '__Host-rookery_session', '__Host-rookery_app'];
    res.setHeader(
      'set-cookie',
      names.map((name) => `${name}=${value}; Domain=rookery.localhost; Path=/; Secure`),
    );
  }
  res.setHeader('content-type', 'text/html').end('<!doctype html><title>free gift</title>');
}

export interface Target {
  readonly url: string;
  readonly method: 'GET' | 'POST';
  readonly body: string;
}

/** Everything that a page could wish to read or change. */
export function targetsOf(hubUrl: string, victim: Site): Target[] {
  const { id } = victim.project;
  const get = (url: string): Target => ({ url, method: 'GET', body: '' });
  const post = (url: string, body: string): Target => ({ url, method: 'POST', body });
  return [
    get(`${hubUrl}/`),
    get(`${hubUrl}/api/v1/account`),
    get(`${hubUrl}/open?project=${id}&port=${victim.port}&next=/`),
    get(`${hubUrl}/${id}/port/${victim.port}/read`),
    get(`${originOf(victim)}/read`),
    get(`${originOf(victim)}/.rookery/session?code=x`),
    post(`${hubUrl}/api/v1/api-keys`, '{"name":"stolen"}'),
    post(`${hubUrl}/api/v1/conat-tokens`, '{}'),
    post(`${hubUrl}/api/v1/projects`, '{"name":"stolen"}'),
    post(`${hubUrl}/${id}/port/${victim.port}/change`, 'x=1'),
    post(`${originOf(victim)}/change`, 'x=1'),
    // Last, as they would end what the others need.
    post(`${hubUrl}/login`, 'token=rookery_x'),
    post(`${hubUrl}/logout`, ''),
  ];
}

/** With and without CORS, with a simple and a JSON content type. */
export async function fetchAll(targets: Target[]): Promise<{ what: string; text: string }[]> {
  const results: { what: string; text: string }[] = [];
  for (const { url, method, body } of targets) {
    for (const mode of ['cors', 'no-cors'] as const) {
      for (const type of ['text/plain', 'application/json']) {
        const headers = { 'content-type': type };
        const text = await fetch(url, {
          method,
          mode,
          headers,
          credentials: 'include' as const,
          ...(method === 'POST' && { body }),
        })
          .then((answer) => answer.text())
          .catch(() => '');
        results.push({ what: `${mode} ${method} ${url}`, text });
      }
    }
  }
  return results;
}

/** Each form has a frame of its own, so that the page stays. */
export function submitForms(targets: Target[]): void {
  const page = globalThis as unknown as { loaded: number; wanted: number };
  page.loaded = 0;
  page.wanted = targets.length;
  for (const [n, { url, method, body }] of targets.entries()) {
    const frame = document.createElement('iframe');
    frame.name = `frame-${n}`;
    frame.onload = () => (page.loaded += 1);
    document.body.append(frame);
    const form = document.createElement('form');
    Object.assign(form, { action: url, method, target: frame.name, enctype: 'text/plain' });
    const [name = '', value = ''] = body.split('=', 2);
    const input = document.createElement('input');
    Object.assign(input, { name, value });
    form.append(input);
    document.body.append(form);
    form.submit();
  }
}

export const isDone = (page: Page): Promise<boolean> =>
  page.evaluate('window.loaded >= window.wanted');

/** What of each frame can be read; null for nothing. */
export async function frameAll(targets: Target[]): Promise<{ url: string; read: string | null }[]> {
  const results: { url: string; read: string | null }[] = [];
  for (const { url, method } of targets) {
    if (method === 'POST') continue;
    const frame = document.createElement('iframe');
    const loaded = new Promise((resolve) => (frame.onload = resolve));
    frame.src = url;
    document.body.append(frame);
    await loaded;
    let read: string | null;
    try {
      read = frame.contentDocument?.body.textContent ?? null;
    } catch {
      read = null;
    }
    results.push({ url, read });
  }
  return results;
}

/** Opens a window and looks into it until it is out of reach, which means for a page: closed. */
export async function openWindow(url: string): Promise<'closed' | 'out of reach' | 'read'> {
  const opened = window.open(url);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (opened === null || opened.closed) return 'closed';
    opened.postMessage({ steal: true }, '*');
    try {
      if (opened.location.href !== 'about:blank') return 'read';
    } catch {
      // Cross-origin by now. The hub goes further: it lets go of the window.
      if (!url.startsWith('https://rookery.')) return 'out of reach';
    }
  }
}

/** The first words that each says to a client without credentials, or `refused`. */
export function openSockets(urls: string[]): Promise<string[]> {
  const ask = (url: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = new WebSocket(url.replace('http', 'ws'));
      // Read at once: of a Blob the text may come after the close.
      socket.binaryType = 'arraybuffer';
      let said = '';
      socket.onopen = () => socket.send('CONNECT {}\r\nPING\r\n');
      socket.onerror = () => resolve('refused');
      socket.onclose = () => resolve(said);
      socket.onmessage = ({ data }) => {
        said += typeof data === 'string' ? data : new TextDecoder().decode(data as ArrayBuffer);
        if (said.startsWith('CONNECT')) resolve('CONNECT');
        else if (said.includes('-ERR')) resolve(said);
      };
    });
  return Promise.all(urls.map(ask));
}

/** A WebSocket that stays; `window.held` says whether it does. */
export function holdSocket(url: string): Promise<void> {
  const page = globalThis as unknown as { held: string };
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace('http', 'ws'));
    socket.onopen = () => {
      page.held = 'open';
      resolve();
    };
    socket.onerror = () => reject(new Error('refused'));
    socket.onclose = () => (page.held = 'closed');
  });
}

/** Cookies as a script sets them, for the domain that all share. */
export function toss(value: string): void {
  for (const name of ['rookery_session', '__Host-rookery_session', '__Host-rookery_app']) {
    for (const domain of ['rookery.localhost', 'localhost']) {
      document.cookie = `${name}=${value}; Domain=${domain}; Path=/; Secure`;
    }
  }
}

/** As a link of the page. */
export function follow(url: string): void {
  location.href = url;
}

export function registerWorkers(urls: string[]): Promise<string[]> {
  const register = (url: string): Promise<string> =>
    navigator.serviceWorker.register(url, { scope: new URL('/', url).href }).then(
      () => 'registered',
      (error: Error) => error.name,
    );
  return Promise.all(urls.map(register));
}

/** A session at the hub of somebody who has a token, without a browser. */
export async function sessionOf(url: string, token: string, publicUrl: string): Promise<string> {
  const { host } = new URL(publicUrl);
  const answer = await fetch(`${url}/login`, {
    method: 'POST',
    redirect: 'manual' as const,
    headers: { origin: publicUrl, 'x-forwarded-host': host, 'x-forwarded-proto': 'https' },
    body: new URLSearchParams({ token }),
  });
  return /=(session_[^;]+)/.exec(answer.headers.get('set-cookie') ?? '')?.[1] ?? '';
}
