import type { IncomingMessage } from 'node:http';
import type { ProjectRole, ProjectState } from '@rookery/core/contract';
import type { ProjectPath } from '../project-path.js';

/** Who sends a request; no `accountId` means nobody known. */
export interface Principal {
  readonly accountId?: string;
  /** Session or API key, so that its long connections can be closed when it is revoked. */
  readonly sessionId?: string;
  /**
   * How it was shown. `cookie`: the hub's own; any page makes a browser send it. `origin`: the cookie
   * of a project's own origin.
   */
  readonly via?: 'cookie' | 'bearer' | 'query' | 'origin';
}

/**
 * Tells who sends a request: from `Authorization: Bearer` or `?rookery_token=`, else from a cookie,
 * on a project's own origin (`path.mode` is `origin`) the one of that origin.
 */
export abstract class RequestAuthenticator {
  /**
   * A wrong or expired credential is nobody, not an error. What is known is best given at once.
   * @param req its headers; `url` has lost what is not for the project by then
   * @param path where it goes; its `queryToken` is what was taken out of the address
   */
  abstract authenticate(req: IncomingMessage, path: ProjectPath): Promise<Principal> | Principal;
}

/** Where a project lives and who may see it. */
export interface ProjectRoute {
  readonly projectId: string;
  readonly state: ProjectState;
  /** Absent when the project is on no host. */
  readonly hostId?: string;
  /** Base URL of the host's ingress, `http://` or `https://`. */
  readonly hostUrl?: string;
  readonly generation: number;
  /** Ports that anybody may open. */
  readonly publicPorts: readonly number[];
  /** The principal's role on the project; undefined for a stranger. */
  roleOf(principal: Principal): Promise<ProjectRole | undefined> | ProjectRole | undefined;
}

/** Finds projects; the hub answers from its tables, cached as it likes. */
export abstract class RouteResolver {
  /**
   * @param options.fresh the last answer led to a host that no longer has the project: look again.
   * @returns undefined for a project that does not exist.
   */
  abstract resolve(
    projectId: string,
    options?: { readonly fresh?: boolean },
  ): Promise<ProjectRoute | undefined> | ProjectRoute | undefined;
}

/** What a token shall say. */
export interface TokenRequest {
  readonly hostId: string;
  readonly projectId: string;
  /** `account:<id>` or `anonymous`. */
  readonly subject: string;
  readonly role: ProjectRole | 'anonymous';
  /** Anonymous tokens open this one port. */
  readonly port?: number;
}

/** Gives access tokens for the hop to a host. */
export abstract class TokenSource {
  abstract tokenFor(request: TokenRequest): Promise<string> | string;
  /** Drops cached tokens: keys were rotated, or access changed. All of them without a project. */
  abstract forget(projectId?: string): void;
}

/** What the hub knows of browsers at projects' own origins. */
export abstract class OriginSessions {
  /** The page of the hub that finds out who it is, and sends the browser back with a code. */
  abstract signInUrl(asked: {
    readonly projectId: string;
    readonly port: number;
    /** Path and query to go on at. */
    readonly next: string;
    /** Random; the code is worth nothing without it. */
    readonly state: string;
  }): string;

  /** Uses a code up. @returns undefined for one that is wrong, expired, used, or for another origin */
  abstract redeem(shown: {
    readonly code: string;
    readonly state: string;
    readonly projectId: string;
    readonly port: number;
  }): Promise<OriginSession | undefined>;
}

export interface OriginSession {
  /** What the cookie holds. */
  readonly secret: string;
  readonly next: string;
  readonly maxAgeSeconds: number;
}
