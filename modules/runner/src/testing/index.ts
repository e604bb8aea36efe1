export { baseImage, testHost, type TestHost, type TestHostOptions } from './podman-host.js';
