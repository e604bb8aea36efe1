import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { createLogger, onSupervisorGone, toCodedError } from '@rookery/core';
import { IngressModule } from './ingress.module.js';

/** The host's data plane: HTTP, WebSocket and SSH bytes. Restarting the agent does not touch it. */
try {
  const app = await NestFactory.createApplicationContext(IngressModule, {
    logger: ['error'],
    abortOnError: false,
  });
  app.enableShutdownHooks();
  onSupervisorGone(() => void app.close().finally(() => process.exit(0)));
} catch (error) {
  createLogger('ingress').fatal(toCodedError(error).toJSON());
  process.exit(1);
}
