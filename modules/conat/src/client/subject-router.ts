import type { ConatClient } from './conat-client.js';

/**
 * Which network a subject belongs to: the control network or a host's own broker. A missing route
 * is an error (CONAT_ROUTE_MISSING), never a fallback to another network.
 */
export abstract class SubjectRouter {
  abstract routeSubject(subject: string): ConatClient;
}

/** One network for everything. */
export class SingleNetworkRouter extends SubjectRouter {
  constructor(private readonly client: ConatClient) {
    super();
  }

  routeSubject(): ConatClient {
    return this.client;
  }
}
