/** Subject patterns; deny wins over allow. */
export interface SubjectRules {
  readonly allow: readonly string[];
  readonly deny?: readonly string[];
}

/** As `allow_responses` of NATS. */
export interface ReplyRules {
  readonly countMax: number;
  /** Counted from the last message that named the reply subject. */
  readonly ttlMs: number;
  /** Messages on these subjects are not to be answered. */
  readonly except?: readonly string[];
}

/** What an identity may say and hear. Nothing is allowed that is not named. */
export interface ConatPermissions {
  readonly publish: SubjectRules;
  readonly subscribe: SubjectRules & {
    /** What may be heard, but not as a member of a queue, who would take messages from others. */
    readonly noQueue?: readonly string[];
  };
  /** Spaces in which it may only read: their JetStream looks at what it asks for. */
  readonly readOnly?: readonly string[];
  /** Answers to the reply subject of a message just received; absent: none beyond `publish`. */
  readonly responses?: ReplyRules;
  /**
   * `own` (default): `_INBOX.<identity name>.>` and nobody else's. `all` is for those who are
   * trusted with everything. `listed` makes them subjects like others, and any
   * reply subject may be named: what nats-server does.
   */
  readonly inboxes?: 'own' | 'all' | 'listed';
}

/** Who a connection is. */
export interface ConatIdentity {
  /** One subject token; also names the inbox. */
  readonly name: string;
  readonly permissions: ConatPermissions;
  /**
   * The space that this connection is rooted in: its subjects are the space's own, as in a NATS
   * account. Permissions are still about the broker's subjects. See SubjectMapping.
   */
  readonly rootedIn?: string;
  /**
   * The account of nats-server's form that it belongs to: a subject space of its own, see
   * `Broker.addAccount`. Absent: the broker's own space.
   */
  readonly account?: string;
  /** It came with a credential for this space alone: for whoever changes its permissions. */
  readonly onlySpace?: string;
  /** What it showed, or what its token was made with: for whoever ends credentials. */
  readonly credential?: string;
  /** Milliseconds since the epoch; the connection is cut then. */
  readonly expiresAt?: number;
}
