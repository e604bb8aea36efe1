interface Alias {
  readonly alias: string;
  readonly reply: string;
  until: number;
}

/**
 * Names for reply subjects that lie outside of a connection's subject space: `_R_.<n>`, known to
 * this one connection, for as long as it may answer. The permission to answer is not here, see
 * ReplyGrants: an alias without a grant leads to a refusal.
 */
export class ReplyAliases {
  private readonly byReply = new Map<string, Alias>();
  private readonly byAlias = new Map<string, Alias>();
  private last = 0;

  constructor(
    private readonly ttlMs: number,
    private readonly aliasesMax: number,
  ) {}

  get size(): number {
    return this.byReply.size;
  }

  aliasOf(reply: string, nowMs: number): string {
    let entry = this.byReply.get(reply);
    if (entry) {
      entry.until = nowMs + this.ttlMs;
      // To the end: a map keeps the order of insertion.
      this.byReply.delete(reply);
    } else {
      this.last += 1;
      entry = { alias: `_R_.${this.last}`, reply, until: nowMs + this.ttlMs };
      this.byAlias.set(entry.alias, entry);
    }
    this.byReply.set(reply, entry);
    if (this.byReply.size > this.aliasesMax) this.prune(nowMs);
    return entry.alias;
  }

  resolve(alias: string): string | null {
    return this.byAlias.get(alias)?.reply ?? null;
  }

  private prune(nowMs: number): void {
    for (const [reply, entry] of this.byReply) {
      if (entry.until >= nowMs && this.byReply.size <= this.aliasesMax) break;
      this.byReply.delete(reply);
      this.byAlias.delete(entry.alias);
    }
  }
}
