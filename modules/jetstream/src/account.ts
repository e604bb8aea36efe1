import type { JetStreamQuota, SubjectSpace } from '@rookery/conat/contract';

/**
 * One isolated JetStream: that of a subject space, or of the whole of a broker. It has streams,
 * consumers and a file of its own; subjects in its API's bodies, in its store and in what it delivers
 * are relative to it.
 */
export interface JetStreamAccount {
  /** The space's id, or the name of a network. One subject token. */
  readonly id: string;
  /** In front of relative subjects on the broker: `<root>.<id>.`, or nothing for a whole broker. */
  readonly subjectPrefix: string;
  /** In front of API subjects on the broker: `<root>.<id>.js.api.` or `$JS.API.`. */
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

/** The account of a subject space, whose store lies at `file`. */
export function spaceAccount({ root, id }: SubjectSpace, file: string): JetStreamAccount {
  return {
    id,
    subjectPrefix: `${root}.${id}.`,
    apiPrefix: `${root}.${id}.js.api.`,
    ackPrefix: `$JS.ACK._.${id}.`,
    flowControlPrefix: `$JS.FC._.${id}.`,
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
