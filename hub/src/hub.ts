import type { Server } from 'node:http';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { ConatWsAdapter } from '@rookery/conat';
import { UpgradeDispatcher, createLogger } from '@rookery/core';
import { attachProxy, HubProxy, ProjectOrigins, TrustedProxies } from '@rookery/proxy';
import { ownOriginOnly } from './api/own-origin.js';
import { AccountsService } from './accounts/accounts.service.js';
import { ClientLimits } from './api/client-limits.js';
import { HubHttpAdapter } from './api/http-adapter.js';
import { openApiDocument } from './api/openapi.js';
import type { HubConfig } from './config/config.js';
import { NestLogger } from './config/nest-logger.js';
import { HostRelay } from './conat/host-relay.js';
import { defaultTuning, type HubTuning } from './config/tuning.js';
import { HubModule } from './hub.module.js';

/**
 * Composes a hub process, ready to listen. One HTTP server serves all: projects' requests go to the
 * proxy before anything of the framework sees them, `/conat` to the broker, the rest to Nest.
 */
export async function createHub(
  config: HubConfig,
  tuning: Partial<HubTuning> = {},
): Promise<NestExpressApplication> {
  const log = createLogger('hub', config.logLevel);
  const settings = { config, log, tuning: { ...defaultTuning, ...tuning } };
  const { connectionsPerAddressMax, requestsPerAddressMax } = config;
  const { headersMs, bodyMs } = settings.tuning;
  const limits = new ClientLimits(new TrustedProxies(config.trustedProxies), {
    connectionsPerAddressMax,
    requestsPerAddressMax,
    bodyMs,
  });
  const adapter = new HubHttpAdapter(limits, headersMs);
  const app = await NestFactory.create<NestExpressApplication>(HubModule.of(settings), adapter, {
    logger: new NestLogger(log),
    bodyParser: false,
    abortOnError: false,
  });
  app.disable('x-powered-by');
  const origins = config.appsUrl === undefined ? undefined : app.get(ProjectOrigins);
  app.use(ownOriginOnly(app.get(TrustedProxies), origins));
  const server: Server = app.getHttpServer();
  const hosted = config.conatUrl === undefined;
  const dispatcher = hosted ? app.get(UpgradeDispatcher) : new UpgradeDispatcher();
  if (hosted) app.useWebSocketAdapter(new ConatWsAdapter(app, dispatcher));
  else dispatcher.attach(server);
  if (config.roles.includes('proxy')) {
    const proxy = app.get(HubProxy);
    attachProxy(server, proxy, { upgrades: 'none' });
    dispatcher.register(
      (_path, request) => proxy.matches(request),
      (request, socket, head) => void proxy.handleUpgrade(request, socket, head),
    );
    const relay = app.get(HostRelay);
    dispatcher.register(
      (path) => relay.matches(path),
      (request, socket, head) => void relay.handleUpgrade(request, socket, head),
    );
  }
  if (config.roles.includes('api')) {
    const document = openApiDocument(config.publicUrl) as unknown as OpenAPIObject;
    SwaggerModule.setup('api/docs', app, document, {
      jsonDocumentUrl: 'api/openapi.json',
      customSiteTitle: 'Rookery API',
    });
    await app.get(AccountsService).bootstrap();
  }
  return app;
}
