import type { InternalClient, InternalMessage } from '@rookery/conat';
import type { JetStreamAccount } from './account.js';
import type { ApiInput, EngineInput } from './engine/engine-io.js';
import { readerRefusal, readerRequest } from './reader-requests.js';
import type { AccountState } from './workers/runner.js';

/** Tokens behind `$JS.ACK.` of a root space; the accounts of others have more. */
const ackTokens = 7;
const pullRequests = 'CONSUMER.MSG.NEXT.';

export interface AccountStatus {
  readonly id: string;
  readonly state: AccountState;
  readonly streams: number;
  /** Where a damaged file was put. */
  readonly asideFile?: string;
}

export interface DoorPorts {
  input(input: EngineInput): void;
}

/**
 * One account on the broker: what it listens to, and what that means to its engine. Buffers of
 * messages are lent by connections for the call, as are those of inputs.
 */
export class AccountBinding {
  state: AccountState = 'ready';
  asideFile: string | undefined;
  private readonly ends: (() => void)[];
  private readonly streams = new Map<string, readonly (() => void)[]>();
  private readonly watches = new Map<string, () => void>();
  private closed = false;

  constructor(
    readonly handle: number,
    readonly account: JetStreamAccount,
    readonly client: InternalClient,
    private readonly ports: DoorPorts,
  ) {
    const { apiPrefix, ackPrefix, flowControlPrefix } = account;
    this.ends = [
      client.subscribe(`${apiPrefix}>`, '', (message) => this.api(message)),
      client.subscribe(`${ackPrefix}>`, '', (message) => this.ack(message)),
      client.subscribe(`${flowControlPrefix}>`, '', (message) => this.flowControl(message)),
    ];
  }

  /** Its streams are told anew: those that are not are gone. */
  async relisten(told: Promise<unknown>): Promise<void> {
    const before = new Map(this.streams);
    await told;
    for (const [stream, ends] of before) {
      if (this.streams.get(stream) === ends) this.listen(stream, []);
    }
  }

  /** The subjects of a stream from now on. */
  listen(stream: string, subjects: readonly string[]): void {
    for (const end of this.streams.get(stream) ?? []) end();
    this.streams.delete(stream);
    if (this.closed || subjects.length === 0) return;
    const { subjectPrefix } = this.account;
    this.streams.set(
      stream,
      subjects.map((subject) =>
        this.client.subscribe(
          subjectPrefix + subject,
          '',
          ({ subject: there, reply, headers, payload, trace }) =>
            this.ports.input({
              kind: 'publish',
              stream,
              subject: there.slice(subjectPrefix.length),
              reply,
              headers,
              payload,
              ...(trace && { trace }),
            }),
          { traces: true },
        ),
      ),
    );
  }

  watch(subject: string): void {
    if (this.closed) return;
    const tell = (present: boolean): void =>
      this.ports.input({ kind: 'interest', subject, present });
    if (!this.watches.has(subject)) {
      this.watches.set(subject, this.client.watchInterest(subject, tell));
    }
    tell(this.client.interest(subject));
  }

  unwatch(subject: string): void {
    this.watches.get(subject)?.();
    this.watches.delete(subject);
  }

  status(): AccountStatus {
    const { state, asideFile } = this;
    const status = { id: this.account.id, state, streams: this.streams.size };
    return asideFile === undefined ? status : { ...status, asideFile };
  }

  close(): void {
    this.closed = true;
    for (const end of this.ends) end();
    for (const stream of [...this.streams.keys()]) this.listen(stream, []);
    for (const subject of [...this.watches.keys()]) this.unwatch(subject);
  }

  private api({ subject, reply, headers, payload, from }: InternalMessage): void {
    const { apiPrefix, id } = this.account;
    const own = subject.slice(apiPrefix.length);
    // Messages for nobody would wait for an acknowledgement that never comes.
    if (own.startsWith(pullRequests) && !this.client.interest(reply)) return;
    const request: ApiInput = { kind: 'api', subject: own, reply, headers, payload };
    const readsOnly = from.permissions.readOnly?.includes(id) ?? false;
    const allowed = readsOnly ? readerRequest(request, from.name) : request;
    if (allowed) {
      this.ports.input(allowed);
      return;
    }
    const refused = readerRefusal(request);
    if (refused) this.client.publish(refused);
  }

  private ack({ subject, reply, payload }: InternalMessage): boolean {
    const { ackPrefix, subjectPrefix } = this.account;
    const own = subject.slice(ackPrefix.length);
    if (subjectPrefix === '' && own.split('.').length > ackTokens) return false;
    this.ports.input({ kind: 'ack', subject: own, reply, payload });
    return true;
  }

  private flowControl({ subject }: InternalMessage): void {
    const { flowControlPrefix } = this.account;
    this.ports.input({ kind: 'flow-control', subject: subject.slice(flowControlPrefix.length) });
  }
}
