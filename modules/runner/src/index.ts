export { PodmanDriver } from './podman/podman.driver.js';
export { ImageOptions, NetworkOptions, PodmanDriverOptions } from './runner.options.js';
export { RunnerErrors } from './runner.errors.js';
export { isAllowed, parseImageRef, type ImageRef } from './image/image-ref.js';
export { ImageStore, type EnsureImageOptions, type ResolvedImage } from './image/image.store.js';
export { VolumeImageStore } from './image/volume-image.store.js';
