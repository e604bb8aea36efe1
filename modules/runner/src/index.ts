export { RunnerModule, type RunnerModuleOptions } from './runner.module.js';
export { RunnerService, toView, type RunnerDependencies } from './runner.service.js';
export { createRunnerHandlers } from './runner.handlers.js';
export { ProjectRuntime, type RuntimeDependencies, type StartOptions } from './project-runtime.js';
export {
  emptyRecord,
  ProjectStore,
  type ProjectChange,
  type AttemptMemory,
  type ProjectRecord,
} from './project.store.js';
export {
  admitAttempt,
  forgetOperation,
  newestClaim,
  noAttempts,
  type KnownAttempt,
  type KnownAttempts,
} from './attempts.js';
export { FenceGuard, refuseBusy } from './fence-guard.js';
export { ContainerReconciler, type ReconcilerDependencies } from './container.reconciler.js';
export { planContainers, type ContainerAction, type ContainerActions } from './container.plan.js';
export {
  ContainerDriver,
  ContainerExtras,
  containerRunFolder,
  type ContainerAddition,
} from './container.driver.js';
export { gatewayOf } from './podman/cidr.js';
export { PodmanDriver } from './podman/podman.driver.js';
export { MemoryDriver } from './memory.driver.js';
export { ImageOptions, NetworkOptions, PodmanDriverOptions } from './runner.options.js';
export { RunnerErrors } from './runner.errors.js';
export { isAllowed, parseImageRef, type ImageRef } from './image/image-ref.js';
export { ImageStore, type EnsureImageOptions, type ResolvedImage } from './image/image.store.js';
export { VolumeImageStore } from './image/volume-image.store.js';
