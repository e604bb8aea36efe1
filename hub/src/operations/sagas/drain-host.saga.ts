import { CodedError, counted, toCodedError } from '@rookery/core';
import { saga, step, StepWaits, type SagaTypes, type StepContext } from '@rookery/move';
import { HubErrors } from '../../hub.errors.js';
import type { ChildOperations, ChildView } from './children.js';

export interface Types extends SagaTypes {
  readonly ports: { readonly children: ChildOperations };
  readonly input: { readonly hostId: string; readonly parallel: number };
  readonly state: {
    readonly refused?: Readonly<Record<string, string>>;
    readonly moved?: number;
  };
  readonly result: { readonly hostId: string; readonly moved: number };
}
type Context = StepContext<Types>;

/**
 * Moves everything off a host, so many at a time. Each move is an operation of its own: it goes on
 * when this one is taken over by another worker, and its failure stops no other. Each that ends
 * wakes this one; in between it holds no worker.
 */
export const drainHost = saga<Types>(
  'host.drain',
  [step('moving', { do: moveAll, undo: cancelMoves })],
  {
    start: () => ({}),
    result: ({ moved = 0 }, { hostId }) => ({ hostId, moved }),
  },
);

async function moveAll(context: Context): Promise<void> {
  const { children } = context.ports;
  const { hostId, parallel } = context.input;
  const refused: Record<string, string> = { ...context.state.refused };
  for (;;) {
    const begun = await children.list(context.operationId);
    const active = begun.filter((child) => !child.ended);
    const left = await children.projectsOn(hostId);
    const tried = new Set([...begun.map((child) => child.projectId), ...Object.keys(refused)]);
    const next = left.filter((projectId) => !tried.has(projectId));
    show(context, begun, left.length);
    if (active.length === 0 && next.length === 0) {
      await context.save({ refused, moved: begun.filter(hasSucceeded).length });
      break;
    }
    let waitsFor = active.length;
    for (const projectId of next.slice(0, Math.max(0, parallel - active.length))) {
      const refusal = await tryToBegin(context, projectId);
      if (refusal === undefined) waitsFor += 1;
      else refused[projectId] = refusal;
    }
    await context.save({ refused });
    if (waitsFor > 0) throw new StepWaits(counted(waitsFor, 'move'));
  }
  await refuseLeftovers(context, refused);
}

/** @returns why a project cannot be moved; undefined when its move has begun. */
async function tryToBegin(context: Context, projectId: string): Promise<string | undefined> {
  try {
    await context.ports.children.beginMove({ parentId: context.operationId, projectId });
    return undefined;
  } catch (error) {
    if (CodedError.is(error)) return error.message;
    throw error;
  }
}

async function refuseLeftovers(
  context: Context,
  refused: Readonly<Record<string, string>>,
): Promise<void> {
  const { children } = context.ports;
  const left = await children.projectsOn(context.input.hostId);
  if (left.length === 0) return;
  const failed = (await children.list(context.operationId)).find((child) => child.error);
  const reason = failed?.error?.message ?? Object.values(refused)[0] ?? 'new ones arrived';
  throw HubErrors.DRAIN_INCOMPLETE({ left: counted(left.length, 'project'), reason });
}

const hasSucceeded = (child: ChildView): boolean => child.state === 'succeeded';

function show(context: Context, begun: readonly ChildView[], left: number): void {
  const done = begun.filter(hasSucceeded).length;
  context.progress({ step: 'move', done, total: done + left, unit: 'projects' });
}

/** What has not begun to change its owner goes back; the rest goes on to its end. */
async function cancelMoves(context: Context): Promise<void> {
  const { children } = context.ports;
  const active = (await children.list(context.operationId)).filter((child) => !child.ended);
  await Promise.all(
    active.map((child) =>
      children.cancel(child.operationId).catch((error: unknown) => {
        if (toCodedError(error).code !== 'CANCEL_TOO_LATE') throw error;
      }),
    ),
  );
}
