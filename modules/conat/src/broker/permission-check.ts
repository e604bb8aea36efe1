import type { ConatPermissions } from '../auth/identity.js';
import { inboxPrefixOf, inboxRoot, PatternSet, toBinary } from './subjects.js';

/** What a subscription may do: hear all of its subject, all but what is denied, or nothing. */
export type SubscribeVerdict = 'all' | 'filtered' | 'none';

/**
 * One identity's permissions, compiled. Deny wins over allow. A subscription must lie wholly
 * inside what is allowed; one that reaches into a denied part is let in and filtered on delivery,
 * as nats-server does. A message's subject may have `*` or `>` for a token: it is denied what such
 * a pattern would reach. Inboxes are apart from the lists: one's own is always open, others' never,
 * not even with `>`, unless the identity is trusted with all of them.
 */
export class PermissionCheck {
  private readonly publishAllow: PatternSet;
  private readonly publishDeny: PatternSet;
  private readonly subscribeAllow: PatternSet;
  private readonly subscribeDeny: PatternSet;
  private readonly noQueue: PatternSet;
  private readonly noAnswer: PatternSet;
  private readonly inboxPrefix: string;
  /** They are subjects like others. */
  private readonly listedInboxes: boolean;
  private lastAllowed: string | null = null;
  private readonly verdicts = new Map<string, boolean>();
  readonly allInboxes: boolean;
  readonly responses: ConatPermissions['responses'];

  constructor(
    identityName: string,
    permissions: ConatPermissions,
    private readonly cacheMax: number,
  ) {
    this.publishAllow = new PatternSet(permissions.publish.allow);
    this.publishDeny = new PatternSet(permissions.publish.deny ?? []);
    this.subscribeAllow = new PatternSet(permissions.subscribe.allow);
    this.subscribeDeny = new PatternSet(permissions.subscribe.deny ?? []);
    this.noQueue = new PatternSet(permissions.subscribe.noQueue ?? []);
    this.noAnswer = new PatternSet(permissions.responses?.except ?? []);
    this.inboxPrefix = toBinary(inboxPrefixOf(identityName));
    this.allInboxes = permissions.inboxes === 'all';
    this.listedInboxes = permissions.inboxes === 'listed';
    this.responses = permissions.responses;
  }

  /** Subjects whose verdict is remembered. */
  get remembered(): number {
    return this.verdicts.size;
  }

  /** Replies are not asked here: see ReplyGrants. */
  mayPublish(subject: string): boolean {
    // The parser gives the same string for the same bytes, so this compares addresses.
    if (subject === this.lastAllowed) return true;
    const allowed = this.isAllowed(subject);
    if (allowed) this.lastAllowed = subject;
    return allowed;
  }

  private isAllowed(subject: string): boolean {
    if (this.isApart(subject)) return this.allInboxes || this.isOwnInbox(subject);
    let verdict = this.verdicts.get(subject);
    if (verdict === undefined) {
      const tokens = subject.split('.');
      verdict = this.publishAllow.covers(tokens) && !this.publishDeny.overlaps(tokens);
      // Never twice the same: an acknowledgement names its message.
      if (subject.startsWith('$JS.ACK.')) return verdict;
      if (this.verdicts.size >= this.cacheMax) this.verdicts.clear();
      this.verdicts.set(subject, verdict);
    }
    return verdict;
  }

  /**
   * A reply subject is where somebody with other rights will publish in answer, so it must be
   * one's own inbox or a subject that one could publish to oneself.
   */
  mayAskReplyTo(reply: string): boolean {
    if (this.allInboxes || this.listedInboxes) return true;
    return this.isOwnInbox(reply) || this.mayPublish(reply);
  }

  subscribeVerdict(subject: string, tokens: readonly string[], queue: string): SubscribeVerdict {
    if (queue !== '' && this.noQueue.size > 0 && this.noQueue.overlaps(tokens)) return 'none';
    if (this.isApart(subject)) {
      return this.allInboxes || this.isOwnInbox(subject) ? 'all' : 'none';
    }
    if (!this.subscribeAllow.covers(tokens) || this.subscribeDeny.covers(tokens)) return 'none';
    const areApart = !this.allInboxes && !this.listedInboxes;
    const reachesInboxes = areApart && (tokens[0] === '>' || tokens[0] === '*');
    return reachesInboxes || this.subscribeDeny.overlaps(tokens) ? 'filtered' : 'all';
  }

  /** For a filtered subscription: may this one message pass? */
  mayHear(subject: string): boolean {
    if (this.isApart(subject)) return this.allInboxes || this.isOwnInbox(subject);
    return this.subscribeDeny.size === 0 || !this.subscribeDeny.overlaps(subject.split('.'));
  }

  /** May the reply subject of a message on this subject be answered? */
  mayAnswer(subject: string): boolean {
    return this.noAnswer.size === 0 || !this.noAnswer.overlaps(subject.split('.'));
  }

  private isApart(subject: string): boolean {
    return !this.listedInboxes && subject.startsWith(inboxRoot);
  }

  private isOwnInbox(subject: string): boolean {
    return subject.startsWith(this.inboxPrefix);
  }
}

/**
 * Reply subjects that a connection may answer because it was just asked (NATS allow_responses):
 * a bounded number of times, for a bounded time since the last request that named the reply.
 */
export class ReplyGrants {
  private readonly grants = new Map<string, { left: number; until: number }>();

  constructor(
    private readonly countMax: number,
    private readonly ttlMs: number,
    private readonly repliesMax: number,
  ) {}

  get size(): number {
    return this.grants.size;
  }

  add(reply: string, nowMs: number): void {
    this.grants.delete(reply);
    this.grants.set(reply, { left: this.countMax, until: nowMs + this.ttlMs });
    if (this.grants.size > this.repliesMax) this.prune(nowMs);
  }

  has(reply: string, nowMs: number): boolean {
    return (this.grants.get(reply)?.until ?? 0) >= nowMs;
  }

  take(reply: string, nowMs: number): boolean {
    const grant = this.grants.get(reply);
    if (!grant) return false;
    if (grant.until < nowMs) {
      this.grants.delete(reply);
      return false;
    }
    grant.left -= 1;
    if (grant.left <= 0) this.grants.delete(reply);
    return true;
  }

  /** A map keeps the order of insertion, so the oldest come first. */
  private prune(nowMs: number): void {
    for (const [reply, grant] of this.grants) {
      if (grant.until >= nowMs && this.grants.size <= this.repliesMax) break;
      this.grants.delete(reply);
    }
  }
}
