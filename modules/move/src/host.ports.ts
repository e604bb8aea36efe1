import type { Readable } from 'node:stream';
import { toCodedError, type CodedError, type CodedErrorJson } from '@rookery/core';
import type {
  MoveId,
  Progress,
  ProjectId,
  ProjectListener,
  ProjectSpec,
  ProjectState,
} from '@rookery/core/contract';
import type { MoveTarget } from '@rookery/fleet/contract';

/** A project as its host keeps it. */
export interface HostProject {
  readonly projectId: ProjectId;
  readonly generation: number;
  readonly spec: ProjectSpec;
  readonly state: ProjectState;
  /** Pinned digest of the image it runs on. */
  readonly imageDigest?: string;
  /** Whether it should run: the wish, not what the container does at this moment. */
  readonly desiredRunning: boolean;
  /** What listens in it, or did when it was stopped. */
  readonly listeners?: readonly ProjectListener[];
}

/** A host's projects, as far as a move touches them. Every method may be repeated. */
export abstract class HostProjects {
  abstract get(projectId: ProjectId): Promise<HostProject | undefined>;
  /**
   * Shuts out every writer (starts, exec, SSH, fs, message stores, snapshots, restores, schedules)
   * and waits until those under way have ended. Durable before it returns: also after a reboot
   * the host refuses them, with PROJECT_MOVING.
   * @throws PROJECT_MOVING when another move holds the fence
   */
  abstract fenceForMove(projectId: ProjectId, moveId: MoveId): Promise<void>;
  /** Lifts the fence, if this move holds it. */
  abstract unfence(projectId: ProjectId, moveId: MoveId): Promise<void>;
  abstract isFencedBy(projectId: ProjectId): Promise<MoveId | undefined>;
  /** Ends the container, also under a fence; the wish to run stays. */
  abstract stopContainer(projectId: ProjectId): Promise<void>;
  /**
   * Starts the container if the project is wanted running; resolves when it runs. A retryable error
   * is repeated; any other ends the try, and the host goes on by its own rules.
   */
  abstract startContainer(projectId: ProjectId): Promise<void>;
  /** Takes over a project whose volume is in place. An equal or older generation changes nothing. */
  abstract adopt(
    projectId: ProjectId,
    generation: number,
    spec: ProjectSpec,
    desiredRunning: boolean,
    listeners?: readonly ProjectListener[],
  ): Promise<void>;
  /** Drops the project's record and container; its volume is removed by the caller. */
  abstract forget(projectId: ProjectId, newUrl?: string): Promise<void>;
}

/** Requests from outside to a project, wherever the ingress runs. Every method may be repeated. */
export abstract class IngressGate {
  /** New requests wait, bounded in number and time. */
  abstract hold(projectId: ProjectId): Promise<void>;
  abstract release(projectId: ProjectId): Promise<void>;
  /** Waiting and late requests are relayed or sent to the new address. */
  abstract moved(projectId: ProjectId, newUrl?: string): Promise<void>;
}

/** Where a host gets images from, beside other hosts. */
export abstract class ImageSource {
  /**
   * Brings an image to the host's storage, under just this digest.
   * @throws MOVE_IMAGE_NOT_FETCHED, and what the source says
   */
  abstract fetch(
    image: string,
    digest: string,
    onProgress: (progress: Progress) => void,
  ): Promise<void>;
}

export interface TransferResult {
  readonly receivedUuid: string;
  /** Bytes that were sent. */
  readonly bytes: number;
}

/** Carries one stream to the destination's ingress. */
export abstract class TransferSender {
  /**
   * Runs `command` there, as this host, and feeds it the stream. A stream that errors must not look
   * like one that ended: the sender then breaks the channel.
   * @throws the receiver's coded error, or a retryable one when the connection failed
   */
  abstract send(
    target: MoveTarget,
    command: string,
    stream: Readable,
    options: { readonly signal: AbortSignal; readonly onProgress?: (sentBytes: number) => void },
  ): Promise<TransferResult>;
}

/** Retryable, and yet a project's own content or image may be the cause, each time anew. */
const perhapsItsOwn = [
  'CONTAINER_START_FAILED',
  'IMAGE_PULL_FAILED',
  'REGISTRY_UNREACHABLE',
  'NETWORK_FULL',
];

/** Whether a start failed for a reason that trying again and again need not remove. */
export const isStartFault = (error: CodedError): boolean =>
  !error.retryable || perhapsItsOwn.includes(error.code);

/**
 * Starts what is wanted running. A project may be unable to start for reasons of its own; that must
 * not hold up a move, forward or back: it is where it belongs, and its host shows the error.
 * @returns what the start said; errors that say nothing about the project are thrown
 */
export async function startIfItCan(
  projects: HostProjects,
  projectId: ProjectId,
): Promise<CodedErrorJson | undefined> {
  for (let last = false; ; last = true) {
    try {
      await projects.startContainer(projectId);
      return undefined;
    } catch (thrown) {
      const error = toCodedError(thrown);
      if (!isStartFault(error)) throw error;
      if (last || !error.retryable) return error.toJSON();
    }
  }
}
