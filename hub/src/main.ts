import { createLogger, onSupervisorGone, protectFromOom, toCodedError } from '@rookery/core';
import { configFromEnvironment } from './config/config.js';
import { HubErrors } from './hub.errors.js';
import { createHub } from './hub.js';

/** Starts one hub process; what is wrong with its settings is one line on stderr. */
async function main(): Promise<void> {
  const config = configFromEnvironment();
  protectFromOom();
  const app = await createHub(config);
  app.enableShutdownHooks();
  // Nobody would stop or restart it any more: the same as a polite end.
  onSupervisorGone(() => process.kill(process.pid, 'SIGTERM'));
  try {
    await app.listen(config.port, config.listen);
  } catch (error) {
    await app.close();
    if ((error as { code?: string }).code !== 'EADDRINUSE') throw error;
    const { port, listen } = config;
    throw HubErrors.HUB_PORT_IN_USE({ port, listen }, { cause: error });
  }
  createLogger('hub', config.logLevel).info(
    { url: config.publicUrl, roles: config.roles },
    'ready',
  );
}

try {
  await main();
} catch (error) {
  const { code, message } = toCodedError(error);
  process.stderr.write(`rookery-hub: ${code}: ${message}\n`);
  process.exit(1);
}
