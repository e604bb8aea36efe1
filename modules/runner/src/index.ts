export { PodmanDriver } from './podman/podman.driver.js';
export { NetworkOptions, PodmanDriverOptions } from './runner.options.js';
export { RunnerErrors } from './runner.errors.js';
