import { hasWildcard, inboxRoot } from './subjects.js';

/** What the list needs to know of a subscription. */
export interface Listed {
  readonly tokens: readonly string[];
  readonly subject: string;
  readonly queue: string;
}

/** Who hears a subject: everyone of `plain`, and one of each group. */
export interface Match<S> {
  readonly plain: readonly S[];
  readonly groups: readonly (readonly S[])[];
}

interface Node<S> {
  readonly literals: Map<string, Node<S>>;
  star: Node<S> | null;
  tail: Node<S> | null;
  readonly plain: Set<S>;
  readonly groups: Map<string, Set<S>>;
}

const newNode = <S>(): Node<S> => ({
  literals: new Map(),
  star: null,
  tail: null,
  plain: new Set(),
  groups: new Map(),
});

const acknowledgements = '$JS.ACK.';

const isEmpty = <S>(node: Node<S>): boolean =>
  node.plain.size === 0 &&
  node.groups.size === 0 &&
  node.literals.size === 0 &&
  !node.star &&
  !node.tail;

/**
 * Subscriptions in a trie of tokens, with a cache of who hears what.
 *
 * Replies carry a token that is never seen again (`_INBOX.<who>.<n>.<unique>`), so caching them by
 * subject would only push out the rest. When no literal subscription lies at the last token, all
 * such subjects have the same receivers and are cached once by the prefix.
 */
export class Sublist<S extends Listed> {
  private readonly root = newNode<S>();
  private readonly cache = new Map<string, Match<S>>();
  /** Inbox subjects that had to be cached whole; see {@link invalidate}. */
  private wholeInboxKeys = 0;
  private lastTokenFree = true;
  private readonly nobody: Match<S> = { plain: [], groups: [] };
  size = 0;
  /** Changes with every subscription that comes or goes. */
  version = 0;
  private lastSubject = '';
  private lastVersion = -1;
  private lastMatch: Match<S> = { plain: [], groups: [] };

  constructor(private readonly cacheMax: number) {}

  insert(sub: S): void {
    let node = this.root;
    for (const token of sub.tokens) node = child(node, token);
    if (sub.queue) {
      const group = node.groups.get(sub.queue);
      if (group) group.add(sub);
      else node.groups.set(sub.queue, new Set([sub]));
    } else {
      node.plain.add(sub);
    }
    this.size += 1;
    this.invalidate(sub);
  }

  remove(sub: S): void {
    const path: Node<S>[] = [this.root];
    for (const token of sub.tokens) {
      const node = path[path.length - 1]!;
      const next = token === '*' ? node.star : token === '>' ? node.tail : node.literals.get(token);
      if (!next) return;
      path.push(next);
    }
    const leaf = path[path.length - 1]!;
    const set = sub.queue ? leaf.groups.get(sub.queue) : leaf.plain;
    if (!set?.delete(sub)) return;
    if (sub.queue && set.size === 0) leaf.groups.delete(sub.queue);
    for (let i = path.length - 1; i > 0 && isEmpty(path[i]!); i -= 1) {
      const token = sub.tokens[i - 1]!;
      const parent = path[i - 1]!;
      if (token === '*') parent.star = null;
      else if (token === '>') parent.tail = null;
      else parent.literals.delete(token);
    }
    this.size -= 1;
    this.invalidate(sub);
  }

  match(subject: string): Match<S> {
    if (subject === this.lastSubject && this.lastVersion === this.version) return this.lastMatch;
    this.lastMatch = this.find(subject);
    this.lastSubject = subject;
    this.lastVersion = this.version;
    return this.lastMatch;
  }

  private find(subject: string): Match<S> {
    // Never twice the same: an acknowledgement names its message.
    if (subject.startsWith(acknowledgements)) return this.walk(subject);
    const inbox = subject.startsWith(inboxRoot);
    const prefix = inbox ? subject.slice(0, subject.lastIndexOf('.') + 1) : '';
    // A last token that is empty must not find what its siblings have in common.
    if (inbox && prefix.length === subject.length) return this.nobody;
    const cached = inbox
      ? (this.cache.get(prefix) ?? (this.wholeInboxKeys ? this.cache.get(subject) : undefined))
      : this.cache.get(subject);
    if (cached) return cached;
    const match = this.walk(subject);
    if (match === this.nobody) return match;
    if (this.cache.size >= this.cacheMax) this.clearCache();
    if (inbox && this.lastTokenFree) {
      this.cache.set(prefix, match);
    } else {
      this.cache.set(subject, match);
      if (inbox) this.wholeInboxKeys += 1;
    }
    return match;
  }

  private walk(subject: string): Match<S> {
    const tokens = subject.split('.');
    // As in nats-server: nobody hears a subject with an empty token, not even `>`.
    if (tokens.includes('')) return this.nobody;
    const plain: S[] = [];
    const groups = new Map<string, S[]>();
    this.lastTokenFree = true;
    this.collect(this.root, tokens, 0, plain, groups);
    return { plain, groups: [...groups.values()] };
  }

  private collect(
    node: Node<S>,
    tokens: readonly string[],
    at: number,
    plain: S[],
    groups: Map<string, S[]>,
  ): void {
    if (at === tokens.length) {
      take(node, plain, groups);
      return;
    }
    if (at === tokens.length - 1 && node.literals.size > 0) this.lastTokenFree = false;
    if (node.tail) take(node.tail, plain, groups);
    if (node.star) this.collect(node.star, tokens, at + 1, plain, groups);
    const literal = node.literals.get(tokens[at]!);
    if (literal) this.collect(literal, tokens, at + 1, plain, groups);
  }

  /** Forgets what a new or removed subscription may have changed. */
  private invalidate(sub: S): void {
    this.version += 1;
    const wildcard = hasWildcard(sub.tokens);
    if (!wildcard) {
      if (!this.cache.size) return;
      if (sub.subject.startsWith(inboxRoot)) {
        this.cache.delete(sub.subject.slice(0, sub.subject.lastIndexOf('.') + 1));
      }
      this.cache.delete(sub.subject);
      return;
    }
    // A client's inbox `_INBOX.<who>.<n>.*` comes and goes with each connection: only its own
    // prefix changes, unless inbox subjects were cached whole.
    const last = sub.tokens.length - 1;
    const ownPrefix =
      this.wholeInboxKeys === 0 &&
      sub.subject.startsWith(inboxRoot) &&
      sub.tokens[last] === '*' &&
      !hasWildcard(sub.tokens.slice(0, last));
    if (ownPrefix) this.cache.delete(sub.subject.slice(0, -1));
    else this.clearCache();
  }

  private clearCache(): void {
    this.cache.clear();
    this.wholeInboxKeys = 0;
  }
}

function child<S>(node: Node<S>, token: string): Node<S> {
  if (token === '*') return (node.star ??= newNode<S>());
  if (token === '>') return (node.tail ??= newNode<S>());
  let next = node.literals.get(token);
  if (!next) node.literals.set(token, (next = newNode<S>()));
  return next;
}

function take<S>(node: Node<S>, plain: S[], groups: Map<string, S[]>): void {
  for (const sub of node.plain) plain.push(sub);
  for (const [name, members] of node.groups) {
    const group = groups.get(name);
    if (group) group.push(...members);
    else groups.set(name, [...members]);
  }
}
