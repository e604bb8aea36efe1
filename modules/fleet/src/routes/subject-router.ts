import { FleetErrors } from '../fleet.errors.js';
import type { ConatClient } from '@rookery/conat';

/**
 * Which network a subject belongs to: the control network or a host's own broker. A missing route
 * is an error (CONAT_ROUTE_MISSING), never a fallback to another network.
 */
export abstract class SubjectRouter {
  /** The client on whose network the subject is; it is connected, or coming back. */
  abstract routeSubject(subject: string): Promise<ConatClient>;
}

/** One network for everything. */
export class SingleNetworkRouter extends SubjectRouter {
  constructor(private readonly client: ConatClient) {
    super();
  }

  async routeSubject(): Promise<ConatClient> {
    return this.client;
  }
}

/** Tokens of `$JS.ACK.<domain>.<account>.…`, and of `$JS.FC.…` likewise, in front of the stream. */
const accountToken = 3;
/** Both have at least one more; shorter ones name no account. */
const withAccount: Readonly<Record<string, number>> = { ACK: 11, FC: 7 };

/**
 * The project on whose host's broker a subject lives; null for the control network.
 * @throws CONAT_SUBJECT_SPANS when it has a wildcard where the project's id belongs
 */
export function projectOfSubject(subject: string): string | null {
  const tokens = subject.split('.');
  const [first = '', second = ''] = tokens;
  if (first === 'project') return single(tokens[1], subject);
  if (first === '$JS' && (second === 'ACK' || second === 'FC')) {
    const isLong = tokens.length >= (withAccount[second] ?? 0) || tokens.at(-1) === '>';
    return isLong && tokens.length > accountToken ? single(tokens[accountToken], subject) : null;
  }
  if (first === '>' || first === '*') throw FleetErrors.CONAT_SUBJECT_SPANS({ subject });
  return null;
}

function single(token: string | undefined, subject: string): string {
  if (token === undefined || token === '' || token === '*' || token === '>') {
    throw FleetErrors.CONAT_SUBJECT_SPANS({ subject });
  }
  return token;
}
