import { ProjectOrigins, TrustedProxies } from '@rookery/proxy';
import type { NextFunction, Request, Response } from 'express';
import { HubErrors } from '../hub.errors.js';

/**
 * What all of the hub's own answers say: no other origin frames them, reads them or holds on to
 * their window. And where a process without the proxy gets a request for a project's origin, the
 * hub's pages are not shown there.
 */
export function ownOriginOnly(trusted: TrustedProxies, origins: ProjectOrigins | undefined) {
  return (request: Request, response: Response, next: NextFunction): void => {
    response.set({
      'content-security-policy': `frame-ancestors 'none'`,
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'x-content-type-options': 'nosniff',
    });
    const { host } = trusted.clientOf(request);
    const ours = origins === undefined || origins.nameOf(host).kind === 'other';
    next(ours ? undefined : HubErrors.MISDIRECTED({ host: host ?? 'what has no Host' }));
  };
}
