import type { SagaRecord } from '@rookery/move';

/** What operations that concern two hosts keep in their input. */
interface TwoHosts {
  readonly fromHostId?: string | null;
  readonly toHostId?: string;
}

/**
 * The host whose part a step is, where that is not the one that owns the project. While a move
 * copies, the source works, but it is the destination that takes the bytes.
 */
export function awaitedHost(record: SagaRecord): string | undefined {
  const { fromHostId, toHostId } = record.input as TwoHosts;
  return isOldOwners(record) ? (fromHostId ?? undefined) : toHostId;
}

function isOldOwners({ saga, step, direction }: SagaRecord): boolean {
  if (saga !== 'project.move') return step === 'stopping' || step === 'cleaning';
  return step === 'cleaning' || (direction === 'undoing' && step !== 'preparing');
}
