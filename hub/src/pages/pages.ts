import type { ServerResponse } from 'node:http';
import type { ProjectOrigins } from '@rookery/proxy';
import type { Caller } from '../accounts/auth.service.js';

const style = `:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;
margin:3rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}td,th{text-align:left;
padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8884}input{font:inherit;width:100%;padding:.4rem;
box-sizing:border-box}button{font:inherit;padding:.4rem 1rem;margin-top:.6rem}.problem{color:#c33}
header{display:flex;justify-content:space-between;align-items:baseline}code{font-size:.9em}`;

const escapes: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
const escape = (text: string): string => text.replace(/[&<>"']/g, (sign) => escapes[sign]!);

const document = (title: string, body: string): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(title)}</title><style>${style}</style></head><body>${body}</body></html>`;

export function loginPage(view: { next: string; problem?: string }): string {
  const problem = view.problem ? `<p class="problem" role="alert">${escape(view.problem)}</p>` : '';
  return document(
    'Sign in · Rookery',
    `<h1>Sign in</h1>${problem}
<form method="post" action="/login"><input type="hidden" name="next" value="${escape(view.next)}">
<label>API token<input type="password" name="token" autocomplete="current-password" required
autofocus></label><button>Sign in</button></form>
<p><code>rookery project open PROJECT</code> and <code>./rookery up</code> make sign-in links.</p>`,
  );
}

/** Before a sign-in link is used that another site has led to. */
export const confirmPage = (view: { ticket: string }): string =>
  document(
    'Sign in · Rookery',
    `<h1>Sign in</h1><p>Another page has led here with a sign-in link. Go on only if you asked for
it: whoever made the link sees what you do with its account.</p><form method="post" action="/login">
<input type="hidden" name="ticket" value="${escape(view.ticket)}"><button>Sign in</button></form>`,
  );

export const problemPage = (view: { title: string; detail: string; code: string }): string =>
  document(
    `${view.title} · Rookery`,
    `<h1>${escape(view.title)}</h1><p>${escape(view.detail)}</p>
<p><small>${escape(view.code)}</small> · <a href="/">Projects</a></p>`,
  );

export interface HomeProject {
  readonly id: string;
  readonly title: string;
  readonly state: string;
  readonly host: string | null;
  readonly rescue: boolean;
}

export function homePage(
  caller: Caller,
  projects: readonly HomeProject[],
  origins: ProjectOrigins | undefined,
): string {
  const service = (id: string): string =>
    origins ? `${origins.originOf(id, 8080)}/` : `/${id}/port/8080/`;
  const rows = projects
    .map(
      ({ id, title, state, host, rescue }) =>
        `<tr><td>${escape(title)}</td><td>${escape(state)}${rescue ? ' (rescue mode)' : ''}</td><td>${escape(host ?? '–')}</td>` +
        `<td><a href="${escape(service(id))}">port 8080</a></td><td><code>${id}</code></td></tr>`,
    )
    .join('');
  const table =
    projects.length === 0
      ? '<p>No project yet. Make one with <code>rookery project create NAME --start</code>.</p>'
      : `<table><thead><tr><th>Project</th><th>State</th><th>Host</th><th>Service</th><th>Id</th>
</tr></thead><tbody>${rows}</tbody></table>`;
  return document(
    'Projects · Rookery',
    `<header><h1>Projects</h1><form method="post" action="/logout"><span>${escape(caller.email)}
</span> <button>Sign out</button></form></header>${table}
<p><a href="/api/docs">API</a></p>`,
  );
}

/**
 * A page of the hub's own: nothing on it runs, loads or is framed.
 * @param onwards where a form's answer may lead besides the hub
 */
export function sendPage(
  response: ServerResponse,
  status: number,
  html: string,
  onwards = '',
): void {
  response.writeHead(status, {
    'content-security-policy': `default-src 'none'; style-src 'unsafe-inline'; form-action 'self' ${onwards}; base-uri 'none'; frame-ancestors 'none'`,
    'content-type': 'text/html; charset=utf-8',
    'content-length': Buffer.byteLength(html),
    'cache-control': 'no-store',
    'referrer-policy': 'same-origin',
    'x-content-type-options': 'nosniff',
  });
  response.end(html);
}
