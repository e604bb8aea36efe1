import {
  createLogger,
  exitUnrecoverable,
  onSupervisorGone,
  protectFromOom,
  SystemExec,
  toCodedError,
} from '@rookery/core';
import { configFromEnvironment } from './config/config.js';
import { ApplianceSupervisor } from './supervisor/appliance-supervisor.js';
import { requireParts } from './supervisor/preflight.js';

/** The host's supervisor: starts agent and ingress, keeps them running, stops them in order. */
try {
  const config = configFromEnvironment();
  const logger = createLogger('host', config.logLevel);
  const refused = protectFromOom();
  if (refused !== undefined) logger.info({ reason: refused }, 'not protected when memory runs out');
  await requireParts(config, new SystemExec());
  const supervisor = new ApplianceSupervisor(config, logger);
  const stop = (): void => void supervisor.stop();
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  onSupervisorGone(stop);
  await supervisor.start();
  process.exitCode = await supervisor.whenEnded;
  if (process.connected) process.disconnect();
} catch (error) {
  createLogger('host').fatal(toCodedError(error).toJSON());
  process.exitCode = exitUnrecoverable;
  if (process.connected) process.disconnect();
}
