import type { Progress } from '@rookery/core/contract';
import type { BackoffOptions } from '@rookery/core';

/**
 * What one saga is made of. `input`, `state` and `result` are plain JSON, because they are kept in
 * the operation's record; `ports` are the living objects that its steps work with.
 */
export interface SagaTypes {
  readonly ports: unknown;
  readonly input: object;
  readonly state: object;
  readonly result: unknown;
}

/** What a step may see and do. */
export interface StepContext<T extends SagaTypes> {
  readonly ports: T['ports'];
  readonly input: Readonly<T['input']>;
  /** What the steps so far returned, merged over the saga's `start` state. */
  readonly state: Readonly<T['state']>;
  readonly operationId: string;
  /** Number of this claim of the operation: goes with every call that has effects. */
  readonly attempt: number;
  /** Number of this claim among all claims: goes with the attempt, when there is one. */
  readonly claim?: number | undefined;
  /** Aborted when the lease is lost, the worker shuts down or the operation is canceled. */
  readonly signal: AbortSignal;
  /** Shows how far the step is; cheap to call often. */
  readonly progress: (progress: Progress) => void;
  /** Keeps part of the state before the step ends, for what a repeated run must know. */
  readonly save: (patch: Partial<T['state']>) => Promise<void>;
}

/**
 * Does the step. It may be run again after any interruption, so it must be idempotent.
 * What it returns is merged into the state.
 */
export type StepDo<T extends SagaTypes> = (
  context: StepContext<T>,
) => Promise<Partial<T['state']> | void>;

/**
 * Takes the step's effect back. It runs after a failure inside the step as well, so it must also
 * work when nothing, or only half, was done; and it may run twice.
 */
export type StepUndo<T extends SagaTypes> = (context: StepContext<T>) => Promise<void>;

/** A step that is not undone, and why. */
export interface NoUndo {
  readonly kind: 'nothing' | 'never';
  readonly reason: string;
}

/** The step leaves no effect: there is nothing to undo. */
export const nothing = (reason: string): NoUndo => ({ kind: 'nothing', reason });

/** The step is past the point of no return: it is repeated until it succeeds, never undone. */
export const never = (reason: string): NoUndo => ({ kind: 'never', reason });

/**
 * Thrown by a forward step that waits for other operations: the run ends and its worker is free.
 * The step runs again when it is woken, so what it must know then it saves before.
 */
export class StepWaits extends Error {
  constructor(what: string) {
    super(`waits for ${what}`);
  }
}

export interface StepOptions<T extends SagaTypes> {
  readonly do: StepDo<T>;
  readonly undo: StepUndo<T> | NoUndo;
  /**
   * Marks the step after which there is only forward, and says how to turn back before it.
   * It is called before anything is undone, whichever step failed. It must first bar the step's
   * effect for good, then answer `undo`; if the effect is there already (its reply was lost),
   * it answers `forward`: the step is repeated, learns its result, and the saga goes on.
   */
  readonly pointOfNoReturn?: (context: StepContext<T>) => Promise<'undo' | 'forward'>;
  /** Overrides the executor's retries of retryable errors, for this step. */
  readonly retry?: Partial<BackoffOptions>;
}

export interface Step<T extends SagaTypes> extends StepOptions<T> {
  readonly name: string;
}

export function step<T extends SagaTypes>(name: string, options: StepOptions<T>): Step<T> {
  return { name, ...options };
}

/** How a saga ended, as its `ended` hook hears it. */
export type SagaEnding = 'succeeded' | 'failed' | 'canceled' | 'stuck';

export interface SagaOptions<T extends SagaTypes> {
  /** The state before the first step. */
  readonly start: (input: T['input']) => T['state'];
  readonly result: (state: T['state'], input: T['input']) => T['result'];
  /** Tells the world how it ended, just before the record says so. May run twice. */
  readonly ended?: (context: StepContext<T>, ending: SagaEnding) => Promise<void>;
}

export interface Saga<T extends SagaTypes> extends SagaOptions<T> {
  readonly name: string;
  readonly steps: readonly Step<T>[];
  /** Index of the step marked so; `steps.length` when every step can be undone. */
  readonly pointOfNoReturn: number;
}

/**
 * Declares long work as a table of steps.
 * @throws TypeError for a table that contradicts itself.
 */
export function saga<T extends SagaTypes>(
  name: string,
  steps: readonly Step<T>[],
  options: SagaOptions<T>,
): Saga<T> {
  const bad = (why: string): never => {
    throw new TypeError(`saga ${name}: ${why}`);
  };
  if (steps.length === 0) bad('has no steps');
  if (new Set(steps.map((each) => each.name)).size !== steps.length) {
    bad('two steps have the same name');
  }
  const marked = steps.flatMap((each, index) => (each.pointOfNoReturn ? [index] : []));
  if (marked.length > 1) bad('has two points of no return');
  const pointOfNoReturn = marked[0] ?? steps.length;
  steps.forEach((each, index) => {
    const forwardOnly = typeof each.undo !== 'function' && each.undo.kind === 'never';
    if (index < pointOfNoReturn && forwardOnly) {
      bad(`step ${each.name} can never be undone but comes before the point of no return`);
    }
    if (index >= pointOfNoReturn && !forwardOnly) {
      bad(`step ${each.name} comes at or after the point of no return: its undo must be never(…)`);
    }
  });
  return { name, steps, pointOfNoReturn, ...options };
}
