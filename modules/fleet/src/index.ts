export {
  NetworkAuthenticator,
  type NetworkAuthenticatorPorts,
} from './auth/network-authenticator.js';
export {
  accountPermissions,
  connectionPermissions,
  hostPermissions,
  hubPermissions,
  joiningHostPermissions,
  projectIdentity,
  projectPermissions,
  type ProjectAccess,
} from './auth/permissions.js';
export { joiningIdentityName } from './auth/joining.js';
export { FleetErrors } from './fleet.errors.js';
export { projectOfSubject, SingleNetworkRouter, SubjectRouter } from './routes/subject-router.js';
export {
  RoutedConatClient,
  type RoutedClientOptions,
  type RoutedRequestOptions,
} from './routes/routed-client.js';
export type { RouteLimits } from './routes/route-limits.js';
export { RouteSource } from './routes/route-source.js';
export { createRoutedServiceClient } from './routes/routed-service-client.js';
