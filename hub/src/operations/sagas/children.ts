import type { CodedErrorView } from '@rookery/core/contract';
import type { OperationState } from '../../database/entities/operation.entity.js';

export interface ChildView {
  readonly operationId: string;
  readonly projectId: string;
  readonly state: OperationState;
  readonly ended: boolean;
  readonly error: CodedErrorView | null;
}

/** What a saga that consists of other operations may do with them. */
export abstract class ChildOperations {
  /** Begins a move below `parentId`; the same one again when it was begun already. */
  abstract beginMove(parent: {
    readonly parentId: string;
    readonly projectId: string;
    /** Absent: placement chooses. */
    readonly host?: string;
  }): Promise<ChildView>;
  abstract list(parentId: string): Promise<ChildView[]>;
  abstract cancel(operationId: string): Promise<void>;
  abstract projectsOn(hostId: string): Promise<string[]>;
  /** Gives the project's lane to a child, or takes it back. @throws PROJECT_BUSY */
  abstract setLane(operationId: string, attempt: number, lane: 'lifecycle' | null): Promise<void>;
}
