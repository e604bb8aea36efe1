import { CodedError } from '@rookery/core';
import type { Fence, HostId, MoveId, ProjectSpec } from '@rookery/core/contract';
import type { MoveHosts } from './move-hosts.js';

/**
 * What a move that is over still has to do at a host that did not answer. `fence` and `moveId` are
 * the move's own: the host's journal takes it up as if the move had gone on.
 */
export type MoveDebt = {
  readonly hostId: HostId;
  readonly fence: Fence;
  readonly moveId: MoveId;
} & (
  | { readonly kind: 'abandon'; readonly takenBack?: boolean }
  | { readonly kind: 'retire'; readonly newUrl?: string }
  /** `takeBack`: the owner had changed, and is the source again. */
  | { readonly kind: 'resume'; readonly restart?: boolean; readonly takeBack?: TakeBack }
);

/** A project that comes back to a host that still has it, fenced, at an older generation. */
export interface TakeBack {
  readonly generation: number;
  readonly spec: ProjectSpec;
}

/**
 * Keeps debts until they are paid: a move ends without the host that is away, and the host hears of
 * it when it is back. They go with the host when it is removed.
 */
export abstract class MoveDebts {
  /** Durable before it returns; the same debt again changes nothing. @throws LEASE_LOST */
  abstract owe(debt: MoveDebt): Promise<void>;
}

/** Does at the host what is owed to it. May be repeated. */
export async function payMoveDebt(
  hosts: MoveHosts,
  debt: MoveDebt,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const { hostId, fence, moveId } = debt;
  switch (debt.kind) {
    case 'abandon':
      await hosts
        .destination(hostId)
        .abandon({ fence, moveId, takenBack: debt.takenBack }, options);
      return;
    case 'retire': {
      const newUrl = debt.newUrl === undefined ? {} : { newUrl: debt.newUrl };
      await hosts.source(hostId).retire({ fence, moveId, ...newUrl }, options);
      return;
    }
    case 'resume': {
      const { takeBack, restart = true } = debt;
      const input = { fence, moveId, restart, ...(takeBack && { takeBack }) };
      await hosts.source(hostId).resume(input, options);
    }
  }
}

const awayCodes = ['HOST_OFFLINE', 'SERVICE_UNAVAILABLE', 'CONAT_ROUTE_MISSING', 'TIMEOUT'];

/** The host does not answer, which says nothing about what it was asked. */
export const isAway = (error: unknown): boolean =>
  CodedError.is(error) && awayCodes.includes(error.code);
