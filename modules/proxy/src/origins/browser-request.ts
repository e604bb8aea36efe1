import type { IncomingMessage } from 'node:http';
import type { ProjectOrigins } from './project-origins.js';

/** What browsers say of a request, and no page can make them say otherwise. */
const header = (req: IncomingMessage, name: string): string | undefined => {
  const value = req.headers[name];
  return typeof value === 'string' ? value : undefined;
};

const isSafe = ({ method }: IncomingMessage): boolean => method === 'GET' || method === 'HEAD';

/**
 * True when a browser will show the answer as a page, in a tab or a frame, or may: over plain HTTP
 * from elsewhere it does not say.
 */
export function isNavigation(req: IncomingMessage): boolean {
  const mode = header(req, 'sec-fetch-mode');
  if (mode !== undefined) return mode === 'navigate';
  if (req.headers.authorization !== undefined) return false;
  return /\btext\/html\b/.test(req.headers.accept ?? '');
}

/** A navigation of a whole tab: somebody followed a link or typed the address. */
export function isVisit(req: IncomingMessage): boolean {
  const dest = header(req, 'sec-fetch-dest');
  return isSafe(req) && isNavigation(req) && (dest === undefined || dest === 'document');
}

/**
 * Whether a cookie that came with a request to a project's own origin may count: the browser says
 * that a page of this project sent it, or that somebody opens it in a tab. SameSite alone does not
 * tell, as all projects may be of one site.
 */
export function isOwnRequest(
  req: IncomingMessage,
  origins: ProjectOrigins,
  projectId: string,
): boolean {
  const site = header(req, 'sec-fetch-site');
  const upgrade = req.headers.upgrade !== undefined;
  if (site === 'same-origin' && !upgrade) return true;
  const { origin } = req.headers;
  // Another port of the project is the project, too.
  if (origin !== undefined) return origins.isOriginOf(origin, projectId);
  if (upgrade) return false;
  if (site === undefined) return isSafe(req);
  return site === 'none' || isVisit(req);
}
