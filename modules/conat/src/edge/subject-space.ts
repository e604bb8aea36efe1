import { inboxPrefixOf, inboxRoot, toBinary } from '../broker/subjects.js';
import type { SubjectSpace } from './space.js';
import type { ReplyAliases } from './reply-aliases.js';

/** Where a kind of subject of the space lies on the broker. */
interface Region {
  readonly tokens: readonly string[];
  /** The same as text, with the dot behind it. */
  readonly prefix: string;
  readonly onBroker: string;
}

const apiPrefix = '$JS.API.';
const ackPrefix = '$JS.ACK.';
const flowControlPrefix = '$JS.FC.';
const aliasRoot = '_R_.';
const apiUnderRoot = 'js.api.';

/** Tokens behind `$JS.ACK`: stream, consumer, delivered, two sequences, time, pending. */
const ackTokens = 7;
const shortAckTokens = 2 + ackTokens;
const longAckTokens = 4 + ackTokens;
/** `$JS.FC.<stream>.<consumer>.<x>`, and with `_.<id>` before the stream. */
const shortFlowControlTokens = 5;
const longFlowControlTokens = 7;

/**
 * The subject space of a rooted connection, as a NATS account gives one to its users: what the
 * client calls `x` is `<root>.<id>.x` on the broker, and nothing else of the broker is there.
 *
 * | client | broker |
 * | --- | --- |
 * | `$JS.API.>` | `<root>.<id>.js.api.>` |
 * | `$JS.ACK.<7 tokens>` (and the long form of nats-server's js_ack_fc_v2) | `$JS.ACK._.<id>.<7 tokens>` |
 * | `$JS.FC.<stream>.<consumer>.<x>` (and its long form) | `$JS.FC._.<id>.<stream>.<consumer>.<x>` |
 * | `_INBOX.>` | `_INBOX.<identity>.>` |
 * | `_R_.<n>`, of this connection alone | the reply subject of somebody outside |
 * | anything else | `<root>.<id>.>` |
 *
 * Every subject has a place, so a client gets no permission errors for others' subjects: as in an
 * account, nobody is there. All subjects are binary strings.
 */
export class SubjectMapping {
  private readonly root: string;
  private readonly api: Region;
  private readonly ack: Region;
  private readonly flowControl: Region;
  private readonly inbox: Region;
  /** What the client often says, on the broker: saves the concatenation. */
  private readonly said = new Map<string, string>();

  constructor(
    space: SubjectSpace,
    identityName: string,
    private readonly cacheMax: number,
    private readonly aliases: ReplyAliases,
  ) {
    const id = toBinary(space.id);
    this.root = `${toBinary(space.root)}.${id}.`;
    this.api = region(apiPrefix, `${this.root}${apiUnderRoot}`);
    this.ack = region(ackPrefix, `${ackPrefix}_.${id}.`);
    this.flowControl = region(flowControlPrefix, `${flowControlPrefix}_.${id}.`);
    this.inbox = region(inboxRoot, toBinary(inboxPrefixOf(identityName)));
  }

  /** How many subjects are remembered. */
  get size(): number {
    return this.said.size;
  }

  /** Where a message goes that the client publishes, or its reply subject. */
  toBroker(subject: string): string {
    const first = subject.charCodeAt(0);
    if (first === 95) {
      if (subject.startsWith(inboxRoot)) {
        return this.inbox.onBroker + subject.slice(inboxRoot.length);
      }
      // An alias that is not known (any more) must not look like one to others.
      if (subject.startsWith(aliasRoot)) {
        return this.aliases.resolve(subject) ?? `${this.root}${aliasRoot}_.${subject.slice(4)}`;
      }
    } else if (first === 36) {
      if (subject.startsWith(ackPrefix)) return this.ackToBroker(subject);
      if (subject.startsWith(flowControlPrefix)) return this.flowControlToBroker(subject);
    }
    const known = this.said.get(subject);
    if (known !== undefined) return known;
    const there =
      first === 36 && subject.startsWith(apiPrefix)
        ? this.api.onBroker + subject.slice(apiPrefix.length)
        : this.root + subject;
    if (this.said.size >= this.cacheMax) this.said.clear();
    this.said.set(subject, there);
    return there;
  }

  /**
   * The subscriptions on the broker that together hear what one of the client hears. No message
   * comes through two of them.
   */
  filters(tokens: readonly string[]): string[] {
    const { api, ack, flowControl, inbox } = this;
    const special: string[] = [];
    for (const each of [api, ack, flowControl, inbox]) {
      const rest = restIn(each, tokens);
      if (!rest) continue;
      const filter = each.onBroker + rest.join('.');
      if (each.tokens.every((token, i) => token === tokens[i])) return [filter];
      // What hears all of the root hears the API there.
      const covered = each === api && tokens[0] !== '$JS' && /^[*>]$/.test(tokens[1] ?? '>');
      if (!covered) special.push(filter);
    }
    return [this.root + tokens.join('.'), ...special];
  }

  /** What the client sees of a subject that came through one of its subscriptions. */
  toClient(subject: string): string {
    return this.ownToClient(subject) ?? subject;
  }

  /** What the client sees of a reply subject; it can publish there while it may. */
  replyToClient(reply: string, nowMs: number): string {
    if (reply === '') return '';
    return this.ownToClient(reply) ?? this.aliases.aliasOf(reply, nowMs);
  }

  private ownToClient(subject: string): string | null {
    const { root, inbox, ack, flowControl } = this;
    if (subject.startsWith(root)) {
      return subject.startsWith(apiUnderRoot, root.length)
        ? apiPrefix + subject.slice(root.length + apiUnderRoot.length)
        : subject.slice(root.length);
    }
    if (subject.startsWith(inbox.onBroker)) {
      return inboxRoot + subject.slice(inbox.onBroker.length);
    }
    if (subject.startsWith(ack.onBroker)) {
      const rest = subject.slice(ack.onBroker.length);
      return ackPrefix + rest.slice(0, endOfToken(rest, ackTokens));
    }
    if (subject.startsWith(flowControl.onBroker)) {
      return flowControlPrefix + subject.slice(flowControl.onBroker.length);
    }
    return null;
  }

  private ackToBroker(subject: string): string {
    const count = countTokens(subject);
    if (count === shortAckTokens) return this.ack.onBroker + subject.slice(ackPrefix.length);
    if (count >= longAckTokens && subject.startsWith(this.ack.onBroker)) return subject;
    return this.root + subject;
  }

  private flowControlToBroker(subject: string): string {
    const count = countTokens(subject);
    if (count === shortFlowControlTokens) {
      return this.flowControl.onBroker + subject.slice(flowControlPrefix.length);
    }
    const isLong = count >= longFlowControlTokens && subject.startsWith(this.flowControl.onBroker);
    return isLong ? subject : this.root + subject;
  }
}

const region = (prefix: string, onBroker: string): Region => ({
  tokens: prefix.slice(0, -1).split('.'),
  prefix,
  onBroker,
});

/** What is left of a filter behind a region's tokens; null when it hears nothing there. */
function restIn(region: Region, tokens: readonly string[]): readonly string[] | null {
  for (let i = 0; i < region.tokens.length; i += 1) {
    const token = tokens[i];
    if (token === '>') return ['>'];
    if (token !== '*' && token !== region.tokens[i]) return null;
  }
  return tokens.length > region.tokens.length ? tokens.slice(region.tokens.length) : null;
}

function countTokens(subject: string): number {
  let count = 1;
  for (let at = subject.indexOf('.'); at >= 0; at = subject.indexOf('.', at + 1)) count += 1;
  return count;
}

/** Where the first `count` tokens end. */
function endOfToken(subject: string, count: number): number {
  let end = -1;
  for (let i = 0; i < count; i += 1) {
    end = subject.indexOf('.', end + 1);
    if (end < 0) return subject.length;
  }
  return end;
}
