/**
 * One isolated JetStream: a project, the control network, or the root space of a standalone
 * broker. It has streams, consumers and a file of its own; subjects in its API's bodies, in its
 * store and in what it delivers are relative to it.
 */
export interface JetStreamAccount {
  /** A project's id, or the name of a network. One subject token. */
  readonly id: string;
  /** In front of relative subjects on the broker: `project.<id>.`, or nothing for a root space. */
  readonly subjectPrefix: string;
  /** In front of API subjects on the broker: `project.<id>.js.api.` or `$JS.API.`. */
  readonly apiPrefix: string;
  /** In front of acknowledgements: `$JS.ACK._.<id>.` or `$JS.ACK.`. */
  readonly ackPrefix: string;
  /** In front of flow control: `$JS.FC._.<id>.` or `$JS.FC.`. */
  readonly flowControlPrefix: string;
  /** The SQLite file. */
  readonly file: string;
  /** Default: what the file's place in the file system allows. */
  readonly quota?: JetStreamQuota;
}

/** As nats-server's limits of an account; what is left out has none. */
export interface JetStreamQuota {
  /** Of streams with `storage: memory`, which are counted apart. */
  readonly memoryBytesMax?: number;
  readonly storageBytesMax?: number;
  readonly streamsMax?: number;
  /** Of each stream. */
  readonly consumersMax?: number;
}

/** The account of a project, whose store lies at `file`. */
export function projectAccount(projectId: string, file: string): JetStreamAccount {
  return {
    id: projectId,
    subjectPrefix: `project.${projectId}.`,
    apiPrefix: `project.${projectId}.js.api.`,
    ackPrefix: `$JS.ACK._.${projectId}.`,
    flowControlPrefix: `$JS.FC._.${projectId}.`,
    file,
  };
}

/** The account of a whole network: JetStream where every NATS client expects it. */
export function rootAccount(id: string, file: string, quota?: JetStreamQuota): JetStreamAccount {
  return {
    ...(quota && { quota }),
    id,
    subjectPrefix: '',
    apiPrefix: '$JS.API.',
    ackPrefix: '$JS.ACK.',
    flowControlPrefix: '$JS.FC.',
    file,
  };
}
