import type { ServiceClient } from '@rookery/rpc/contract';
import type { projectStreams } from '@rookery/api';

export interface ConatAccess {
  readonly url: string;
  readonly token: string;
  readonly inboxPrefix: string;
}

export type ProjectStreams = ServiceClient<typeof projectStreams>;

/** One open connection to the messaging of a hub. */
export interface ConatConnection {
  streamsOf(projectId: string): ProjectStreams;
  /** True once the connection is lost for good. */
  readonly closed: boolean;
  close(): Promise<void>;
}
