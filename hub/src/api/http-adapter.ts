import type { Server } from 'node:http';
import { ExpressAdapter } from '@nestjs/platform-express';
import { createIngressServer } from '@rookery/proxy';
import type { ClientLimits } from './client-limits.js';

/** Requests under way when the application closes may take this long. */
const closeMs = 3000;

/** Nest's Express over a server with our limits: what Node's default one waits for lasts too long. */
export class HubHttpAdapter extends ExpressAdapter {
  constructor(
    private readonly limits: ClientLimits,
    private readonly headersMs: number,
  ) {
    super();
  }

  override initHttpServer(): void {
    const server = createIngressServer({ headersMs: this.headersMs });
    this.limits.watch(server);
    server.on('request', this.limits.before(this.getInstance()));
    this.httpServer = server;
  }

  /** Once closed, a server no longer looks for clients that take their time: they would keep it. */
  override async close(): Promise<void> {
    const server: Server = this.httpServer;
    const end = setTimeout(() => server.closeAllConnections(), closeMs);
    await super.close();
    clearTimeout(end);
  }
}
