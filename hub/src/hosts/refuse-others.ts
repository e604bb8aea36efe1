import type { CallContext } from '@rookery/rpc/contract';
import { HubErrors } from '../hub.errors.js';

/** @throws CALLER_REFUSED */
export function refuseOthers(context: CallContext, expected: string, subject: string): void {
  const { caller } = context;
  if (caller !== expected) throw HubErrors.CALLER_REFUSED({ caller, subject });
}
