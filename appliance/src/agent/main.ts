import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { ConatWsAdapter } from '@rookery/conat';
import {
  UpgradeDispatcher,
  CodedError,
  createLogger,
  exitUnrecoverable,
  onSupervisorGone,
  toCodedError,
} from '@rookery/core';
import { gatewayOf } from '@rookery/runner';
import { ProjectBrokerListener } from '../access/project-broker-listener.js';
import { CONFIG, type HostConfig } from '../config/config.js';
import { AgentModule } from './agent.module.js';
import { endUnready } from './unready.js';

/** The host's control: storage, containers, backups, moves, and the broker for its projects. */
try {
  const app = await NestFactory.create(AgentModule, {
    logger: ['error', 'warn'],
    abortOnError: false,
  });
  app.useWebSocketAdapter(new ConatWsAdapter(app, app.get(UpgradeDispatcher)));
  app.enableShutdownHooks();
  onSupervisorGone(() => void app.close().finally(() => process.exit(0)));
  const { agentPort, listen, projectCidr } = app.get<HostConfig>(CONFIG);
  await app.listen(agentPort, listen);
  await app.get(ProjectBrokerListener).open(gatewayOf(projectCidr), agentPort, listen);
} catch (error) {
  const coded = toCodedError(error);
  createLogger('agent').fatal({ err: error, code: coded.code }, coded.message);
  if (coded.code !== 'INVALID_CONFIG') await endUnready(coded);
  // A wrong setting does not get better by trying again.
  process.exit(CodedError.is(error, 'INVALID_CONFIG') ? exitUnrecoverable : 1);
}
