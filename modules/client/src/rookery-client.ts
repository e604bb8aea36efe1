import type { CallOptions, DuplexCall } from '@rookery/rpc/contract';
import type { z } from 'zod';
import type { ExecControl, ExecResult, projectStreams, OperationView } from '@rookery/api';
import { ApiClient, type ApiMethods } from './api-methods.js';
import { successOf, watchOperation, type WatchOptions } from './operations.js';
import { ProjectStreamsConnection, type ConnectConat } from './project-streams.js';
import { Transport, type TransportOptions } from './transport.js';

export interface RookeryClientOptions extends TransportOptions {
  /** How `exec` and `logs` reach the hub's messaging. Default: NATS over WebSocket. */
  readonly connectConat?: ConnectConat;
}

export interface WaitOptions extends WatchOptions {
  /** Hears every change, the final one included. */
  readonly onProgress?: (operation: OperationView) => void;
}

type StreamMethods = (typeof projectStreams)['methods'];
export type ExecRequest = z.input<StreamMethods['exec']['input']>;
export type LogsRequest = z.input<StreamMethods['logs']['input']>;
export type ExecCall = DuplexCall<z.output<typeof ExecResult>, ExecControl>;
export type LogsCall = DuplexCall<object, object>;

/** The list operations, whose answers come in pages. */
type PagedOperation = {
  [K in keyof ApiMethods]: Awaited<ReturnType<ApiMethods[K]>> extends {
    items: unknown[];
    nextCursor: string | null;
  }
    ? K
    : never;
}[keyof ApiMethods];
type PagedInput<K extends PagedOperation> = Omit<
  NonNullable<Parameters<ApiMethods[K]>[0]>,
  'cursor'
>;
type PagedItem<K extends PagedOperation> = Awaited<ReturnType<ApiMethods[K]>>['items'][number];

/**
 * A hub's API with one typed method an operation (`client.createProject({ name })`), and what takes
 * longer than a request: watching operations, and bytes to and from projects.
 * Every error is a `CodedError`; its code is the hub's.
 */
export class RookeryClient extends ApiClient {
  private readonly streams: ProjectStreamsConnection;

  constructor(options: RookeryClientOptions) {
    super(new Transport(options));
    this.streams = new ProjectStreamsConnection(
      options.url,
      () => this.createConatToken(),
      options.connectConat,
    );
  }

  /** Where the hub answers, without a slash at the end. */
  get url(): string {
    return this.transport.baseUrl;
  }

  /** Views of an operation as it changes, ended by the final one. Reconnects by itself. */
  watchOperation(operationId: string, options?: WatchOptions): AsyncIterable<OperationView> {
    return watchOperation(this.transport, operationId, options);
  }

  /**
   * Waits for the end of an operation.
   * @returns the final view of one that succeeded
   * @throws the operation's own coded error, OPERATION_CANCELED, OPERATION_STUCK; CANCELED when
   * `signal` aborts, which leaves the operation running
   */
  async waitForOperation(operationId: string, options: WaitOptions = {}): Promise<OperationView> {
    let last: OperationView | undefined;
    for await (const view of this.watchOperation(operationId, options)) {
      options.onProgress?.(view);
      last = view;
    }
    return successOf(last ?? (await this.getOperation({ operationId })));
  }

  /** Every item of a list operation, page after page. */
  async *each<K extends PagedOperation>(
    operation: K,
    input: PagedInput<K> = {} as PagedInput<K>,
  ): AsyncGenerator<PagedItem<K>, void, undefined> {
    type Page = { items: PagedItem<K>[]; nextCursor: string | null };
    const list = this[operation].bind(this) as unknown as (input: object) => Promise<Page>;
    let cursor: string | null | undefined;
    do {
      const page = await list({ limit: 500, ...input, ...(cursor != null && { cursor }) });
      yield* page.items;
      cursor = page.nextCursor;
    } while (cursor !== null);
  }

  /**
   * Runs a command in a running project. Both directions have flow control: a slow reader slows
   * the command and costs no memory.
   */
  async exec(projectId: string, request: ExecRequest, options?: CallOptions): Promise<ExecCall> {
    return (await this.streams.of(projectId)).exec(request, options);
  }

  /** What the project's container wrote; with `follow` until canceled. */
  async logs(
    projectId: string,
    request: LogsRequest = {},
    options?: CallOptions,
  ): Promise<LogsCall> {
    return (await this.streams.of(projectId)).logs(request, options);
  }

  /**
   * A request to a service inside a project, through the hub, with this client's credentials.
   * @param path as in the project's `url`: `/<project>/port/<port>/…`
   */
  fetchService(path: string, init?: RequestInit): Promise<Response> {
    return this.transport.plain(path, init);
  }

  /** Closes the messaging connection, if one was opened. The client can be used again. */
  async close(): Promise<void> {
    await this.streams.close();
  }
}
