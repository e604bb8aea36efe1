/** What a container is to the runner, whatever runs it. */
export { awaitedPorts } from './listeners.js';
export {
  ContainerDriver,
  type ContainerCapabilities,
  type ContainerEnd,
  type ContainerSpec,
  type ContainerStatus,
  type ExecSession,
} from './container.driver.js';
