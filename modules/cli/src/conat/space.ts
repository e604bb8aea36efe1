const api = 'js.api';

/**
 * The subjects that a command's user sees: all of a broker's, or a project's own, where `x` is
 * `project.<id>.x` on the broker.
 */
export class Space {
  private readonly prefix: string;

  constructor(readonly projectId?: string) {
    this.prefix = projectId === undefined ? '' : `project.${projectId}.`;
  }

  /** Where the JetStream API is; undefined: where every client expects it. */
  get apiPrefix(): string | undefined {
    return this.projectId === undefined ? undefined : `${this.prefix}${api}`;
  }

  /** On the broker. Inboxes and `$SRV` are the broker's own. */
  toBroker(subject: string): string {
    return /^(_INBOX\.|\$)/.test(subject) ? subject : this.prefix + subject;
  }

  shown(subject: string): string {
    return subject.startsWith(this.prefix) ? subject.slice(this.prefix.length) : subject;
  }
}
