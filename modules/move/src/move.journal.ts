import {
  HostId,
  ImageTreeDigest,
  MoveId,
  PlacementGeneration,
  ProjectId,
  SshPublicKey,
} from '@rookery/core/contract';
import { z } from 'zod';
import { MoveStream } from '@rookery/fleet/contract';

const Confirmed = MoveStream.extend({ bytes: z.int().min(0) });

/** One round of the pre-copy: a picture that arrived. */
const Round = z.object({
  /** Name of the picture at the source. */
  name: z.string(),
  uuid: z.string(),
  persistenceUuid: z.string(),
  bytes: z.int().min(0),
});
export type MoveRound = z.infer<typeof Round>;

/**
 * A move as its source remembers it. `undone` and `retired` are final and stay as tombstones, so
 * that a request which was delayed in the network finds the move over. Once the hub has said that it
 * asks nothing more of it, the row may go: then {@link MoveJournal.forgottenClaim} refuses that.
 */
export const OutgoingMove = z.object({
  moveId: MoveId,
  projectId: ProjectId,
  generation: PlacementGeneration,
  /** Newest attempt heard of; older ones are refused. */
  attempt: z.int().min(1),
  /** That attempt's claim; 0: its hub numbers none, or an earlier release wrote the row. */
  claim: z.int().min(0).default(0),
  state: z.enum(['copying', 'fenced', 'undoing', 'undone', 'retiring', 'retired']),
  /** Whether the project was to run when it was fenced. */
  wasRunning: z.boolean().optional(),
  /** Streams of which the destination said that they arrived. */
  confirmed: z.array(Confirmed),
  /** TemporarySnapshots that this move may have taken: written before they are. */
  pictures: z.array(z.string()),
  rounds: z.array(Round),
  newUrl: z.url().optional(),
  updatedAt: z.number(),
});
export type OutgoingMove = z.infer<typeof OutgoingMove>;

/** A move as its destination remembers it; also what lets the source's key in. */
export const IncomingMove = z.object({
  moveId: MoveId,
  projectId: ProjectId,
  /** Absent in the tombstone of a move that was undone before it was prepared. */
  sourceHostId: HostId.optional(),
  sourceTransferKey: SshPublicKey.optional(),
  /** Before the commit. */
  generation: PlacementGeneration,
  attempt: z.int().min(1),
  /** As in {@link OutgoingMove}. */
  claim: z.int().min(0).default(0),
  /** Room kept free for what has yet to arrive. */
  needBytes: z.int().min(0),
  imageDigest: z.string().optional(),
  /** What that image holds, by the hub's word. */
  imageTree: ImageTreeDigest.optional(),
  /** Only `authorized` lets streams in. `active` and `abandoned` are final. */
  state: z.enum(['preparing', 'authorized', 'activating', 'active', 'abandoned']),
  /** Set once the landed subvolumes are the project's volume. */
  overQuota: z.boolean().optional(),
  updatedAt: z.number(),
});
export type IncomingMove = z.infer<typeof IncomingMove>;

/**
 * A host's memory of its moves. A save is durable before it returns: the services answer for what
 * they wrote here. The ingress process reads it as well, to know whose key may send what.
 */
export abstract class MoveJournal {
  abstract outgoing(moveId: MoveId): Promise<OutgoingMove | undefined>;
  abstract listOutgoing(): Promise<OutgoingMove[]>;
  abstract saveOutgoing(move: OutgoingMove): Promise<void>;
  abstract incoming(moveId: MoveId): Promise<IncomingMove | undefined>;
  abstract listIncoming(): Promise<IncomingMove[]>;
  abstract saveIncoming(move: IncomingMove): Promise<void>;
  /**
   * Moves of the project that have no row here and were claimed up to here were forgotten, not
   * missed: they are over. 0: none was.
   */
  abstract forgottenClaim(projectId: ProjectId): Promise<number>;
}

export const outgoingEnds = ['undone', 'retired'] as const satisfies OutgoingMove['state'][];
export const incomingEnds = ['active', 'abandoned'] as const satisfies IncomingMove['state'][];

/** What a host's moves still need of its storage: goes into the storage reconciler's desired state. */
export async function moveClaims(journal: MoveJournal): Promise<{
  moves: MoveId[];
  frozen: { projectId: ProjectId; name: string }[];
  /** Images that arriving projects will need. */
  images: string[];
}> {
  const incoming = (await journal.listIncoming()).filter((move) => isIncomingAlive(move));
  const outgoing = (await journal.listOutgoing()).filter(
    (move) => move.state === 'copying' || move.state === 'fenced',
  );
  return {
    moves: incoming.map((move) => move.moveId),
    frozen: outgoing.flatMap(({ projectId, pictures }) =>
      pictures.map((name) => ({ projectId, name })),
    ),
    images: incoming.flatMap(({ imageDigest }) => (imageDigest === undefined ? [] : [imageDigest])),
  };
}

export function isIncomingAlive(move: IncomingMove): boolean {
  return move.state === 'preparing' || move.state === 'authorized' || move.state === 'activating';
}
