import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connz, isSet, QueryError } from './connz.js';
import { jsz } from './jsz.js';
import { varz, type Monitored } from './varz.js';

const jsonType = 'application/json';

interface Page {
  readonly status: number;
  readonly body: object;
}

const unavailable = (error: string): Page => ({
  status: 503,
  body: { status: 'unavailable', status_code: 503, error },
});

/** The state of the server in nats-server's words, and the status that goes with it. */
function healthz({ broker, persistence }: Pick<Monitored, 'broker' | 'persistence'>): Page {
  if (broker.facts().draining) return unavailable('the server is shutting down');
  const [damaged] = persistence?.damagedAccounts() ?? [];
  if (damaged !== undefined) {
    return unavailable(`JetStream account '${damaged}' was put aside: damaged`);
  }
  return { status: 200, body: { status: 'ok' } };
}

/**
 * Pages for dashboards made for nats-server: `/varz`, `/connz`, `/jsz`, `/healthz`. They tell
 * addresses and names of clients to whoever asks, so they listen only where an operator says.
 */
export class MonitoringServer {
  readonly server: Server;
  private readonly requests: Record<string, number> = {
    '/': 0,
    '/varz': 0,
    '/connz': 0,
    '/jsz': 0,
    '/healthz': 0,
  };

  constructor(private readonly monitored: () => Monitored) {
    this.server = createServer((request, response) => {
      this.answer(request, response).catch((error: unknown) => {
        const status = error instanceof QueryError ? 400 : 500;
        response.writeHead(status, { 'content-type': 'text/plain' });
        response.end(`${error instanceof Error ? error.message : 'failed'}\n`);
      });
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
      return;
    }
    if (!Object.hasOwn(this.requests, pathname)) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found\n');
      return;
    }
    this.requests[pathname] = this.requests[pathname]! + 1;
    const { status, body } = await this.page(pathname, searchParams);
    response.writeHead(status, { 'content-type': jsonType });
    response.end(JSON.stringify(body, null, 2));
  }

  private async page(path: string, query: URLSearchParams): Promise<Page> {
    const monitored = this.monitored();
    if (path === '/varz') {
      const stats = await jsz(monitored, new URLSearchParams());
      return { status: 200, body: varz(monitored, { ...this.requests }, stats) };
    }
    if (path === '/connz') return { status: 200, body: connz(monitored, query) };
    if (path === '/jsz') return { status: 200, body: await jsz(monitored, query) };
    if (path === '/healthz') {
      const wantsJetStream = ['js-enabled-only', 'js-enabled'].some((key) => isSet(query, key));
      if (wantsJetStream && !monitored.persistence) return unavailable('JetStream not enabled');
      return healthz(monitored);
    }
    return { status: 200, body: { pages: Object.keys(this.requests).slice(1) } };
  }
}
