import { CodedError, createLogger, type Logger } from '@rookery/core';
import type { Msg, Subscription } from '@nats-io/nats-core';
import { FleetErrors } from '../fleet.errors.js';
import {
  projectRoutes,
  RouteChange,
  routeChangeSubject,
  type ProjectRoute,
} from '../contract/routes.js';
import { createServiceClient } from '@rookery/rpc';
import type { ConatClient } from '@rookery/conat';

/** Who knows where projects are. */
export abstract class RouteSource {
  /**
   * Where the project is now.
   * @param proof what the caller shows on the control network, for a token in the answer
   * @throws CONAT_ROUTE_MISSING when it is nowhere; NOT_FOUND, SERVICE_FORBIDDEN when it is none
   * of the caller's; what `conat` says when nobody answers
   */
  abstract resolve(projectId: string, proof: string | undefined): Promise<ProjectRoute>;

  /**
   * Calls back when the project may be elsewhere: with its generation then, or without one after a
   * time in which that could have been missed.
   * @returns a function that ends it
   */
  abstract onChange(projectId: string, listener: (generation?: number) => void): () => void;
}

/** What the hub says, over the control network. */
export class ControlRoutes extends RouteSource {
  private readonly logger: Logger;

  constructor(
    private readonly control: ConatClient,
    logger?: Logger,
  ) {
    super();
    this.logger = logger ?? createLogger('conat-routes', 'warn');
  }

  async resolve(projectId: string, proof: string | undefined): Promise<ProjectRoute> {
    if (!/^[^\s.*>]+$/.test(projectId)) {
      throw FleetErrors.CONAT_ROUTE_MISSING({ subject: `project.${projectId}` });
    }
    const routes = createServiceClient(this.control, projectRoutes, { projectId });
    return routes.resolve({ ...(proof !== undefined && { proof }) });
  }

  onChange(projectId: string, listener: (generation?: number) => void): () => void {
    const { control } = this;
    const subscription: Subscription = control.nats.subscribe(routeChangeSubject(projectId), {
      callback: (error, message) => {
        if (error) {
          this.logger.debug({ err: error, projectId }, 'changes of its route are not told');
          return;
        }
        const change = RouteChange.safeParse(readJson(message));
        if (change.success) listener(change.data.generation);
      },
    });
    const unlisten = control.onStatus((status) => {
      if (status === 'connected') listener();
    });
    return () => {
      unlisten();
      if (!control.nats.isClosed()) subscription.unsubscribe();
    };
  }
}

function readJson(message: Msg): unknown {
  try {
    return message.json();
  } catch {
    return undefined;
  }
}

/** The hub's last word: the project is none of the caller's. */
export const isNoRouteOfMine = (error: unknown): boolean =>
  CodedError.is(error, 'SERVICE_FORBIDDEN') || CodedError.is(error, 'NOT_FOUND');
