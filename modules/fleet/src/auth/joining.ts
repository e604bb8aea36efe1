import { createHash } from 'node:crypto';

/**
 * The name under which a host that joins with `token` is known until it is registered: both sides
 * can tell it, nobody else can.
 */
export function joiningIdentityName(token: string): string {
  return `joining-${createHash('sha256').update(token).digest('hex').slice(0, 32)}`;
}
