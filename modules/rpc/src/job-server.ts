import { createHash } from 'node:crypto';
import { toCodedError, type CodedError, type Logger } from '@rookery/core';
import { Fence, type Progress } from '@rookery/core/contract';
import type { JobContext } from './contract/service.js';
import type { Msg, MsgHdrs } from '@nats-io/nats-core';
import { z } from 'zod';
import type { ConatClient } from '@rookery/conat';
import { RpcErrors } from './rpc.errors.js';
import { Channel } from './channel.js';
import type { ServiceLimits } from './service-limits.js';
import type { ServiceRequest } from './service-request.js';
import {
  callerOf,
  encodeError,
  encodeJson,
  encodeOutput,
  errorHeaders,
  typed,
  wireHeaders,
  type MessageType,
} from './wire.js';

type JobHandler = (input: unknown, context: JobContext) => Promise<unknown>;

interface Outcome {
  readonly data: Uint8Array;
  readonly headers: MsgHdrs;
  readonly ok: boolean;
}

/** A job and everyone who waits for it. */
interface Run {
  readonly key: string;
  readonly subject: string;
  readonly runIds: Set<string>;
  /** Reply inboxes of those who wait. */
  readonly callers: Set<string>;
  readonly channel: Channel;
  readonly controller: AbortController;
  lastProgress: Progress | null;
  outcome: Outcome | null;
  timer: NodeJS.Timeout;
}

const Fenced = z.object({ fence: Fence.pick({ projectId: true, operationId: true }) });

/**
 * Runs jobs. A run is known by (method, project, operation, input): who asks the same again joins
 * it, and a result is kept for a while, so a lost reply costs nothing. A failure is only said again
 * to those who waited for it; a new request then runs the job anew. Losing its callers does not
 * stop a job (the next attempt will want it); only their cancel does.
 */
export class JobServer {
  private readonly byKey = new Map<string, Run>();
  private readonly byRunId = new Map<string, Run>();
  private readonly running = new Map<Run, Promise<void>>();
  private stopping: CodedError | undefined;

  constructor(
    private readonly client: ConatClient,
    private readonly limits: ServiceLimits,
    private readonly logger: Logger,
  ) {}

  start(request: ServiceRequest, handler: JobHandler): void {
    const { message, subject } = request;
    const runId = `${request.caller} ${message.headers?.get(wireHeaders.run) || message.reply!}`;
    const key = keyOf(request) ?? runId;
    const known = this.byRunId.get(runId) ?? this.joinable(key);
    if (known) {
      this.join(known, runId, message.reply!, subject);
      return;
    }
    if (this.running.size >= this.limits.sessionsMax) {
      throw RpcErrors.SERVICE_BUSY({ subject, limit: this.limits.sessionsMax });
    }
    const run = this.create(key, subject);
    this.join(run, runId, message.reply!, subject);
    const work = this.perform(run, request, handler).finally(() => this.running.delete(run));
    this.running.set(run, work);
  }

  /** A caller that lost us asks for its run. Who does not know the run keeps silent: another may. */
  attach(message: Msg): void {
    const caller = callerOf(message.reply);
    const run = this.byRunId.get(`${caller} ${message.headers?.get(wireHeaders.run) ?? ''}`);
    if (!run || !message.reply) return;
    run.callers.add(message.reply);
    this.say(run, message.reply, 'accepted');
    this.tell(run, message.reply);
  }

  /** What runs is interrupted, not canceled: callers hear the reason and ask again. */
  abort(reason: CodedError): void {
    this.stopping = reason;
    for (const run of this.running.keys()) run.controller.abort(reason);
  }

  async settled(): Promise<void> {
    await Promise.all(this.running.values());
  }

  close(): void {
    for (const run of new Set([...this.byRunId.values(), ...this.byKey.values()])) this.forget(run);
  }

  private joinable(key: string): Run | undefined {
    const run = this.byKey.get(key);
    return run?.outcome && !run.outcome.ok ? undefined : run;
  }

  private create(key: string, subject: string): Run {
    const run: Run = {
      key,
      subject,
      runIds: new Set(),
      callers: new Set(),
      channel: new Channel(this.client, (message) => this.hear(run, message)),
      controller: new AbortController(),
      lastProgress: null,
      outcome: null,
      timer: setInterval(() => this.beat(run), this.limits.heartbeatMs),
    };
    run.timer.unref();
    this.byKey.set(key, run);
    return run;
  }

  private join(run: Run, runId: string, reply: string, subject: string): void {
    if (run.callers.size >= this.limits.callersPerJobMax && !run.callers.has(reply)) {
      throw RpcErrors.SERVICE_BUSY({ subject, limit: this.limits.callersPerJobMax });
    }
    run.callers.add(reply);
    run.runIds.add(runId);
    this.byRunId.set(runId, run);
    this.say(run, reply, 'accepted');
    if (run.outcome || run.lastProgress) this.tell(run, reply);
  }

  private async perform(run: Run, request: ServiceRequest, handler: JobHandler): Promise<void> {
    const { params, caller, input, method, subject } = request;
    try {
      const output = await handler(input, {
        params,
        caller,
        signal: run.controller.signal,
        progress: (progress) => {
          run.lastProgress = progress;
          for (const reply of run.callers) this.tell(run, reply);
        },
      });
      const data = encodeOutput(method, output, subject);
      this.finish(run, { data, headers: typed('result'), ok: true });
    } catch (error) {
      // A handler that stops on its own accord before we say so may call it a cancel: it is none.
      const coded = this.stopping ?? toCodedError(error);
      if (coded.status >= 500) this.logger.error({ err: error, subject }, 'a job failed');
      this.fail(run, coded);
    }
  }

  private fail(run: Run, error: CodedError): void {
    this.finish(run, {
      data: encodeError(error),
      headers: errorHeaders(error, 'result'),
      ok: false,
    });
  }

  private finish(run: Run, outcome: Outcome): void {
    run.outcome = outcome;
    for (const reply of run.callers) this.tell(run, reply);
    clearInterval(run.timer);
    run.timer = setTimeout(() => this.forget(run), this.limits.resultKeepMs);
    run.timer.unref();
    const finished = [...this.byKey.values()].filter((other) => other.outcome);
    if (finished.length > this.limits.resultsKeptMax) this.forget(finished[0]!);
  }

  private hear(run: Run, message: Msg): void {
    const reply = message.reply ?? '';
    if (!run.callers.has(reply)) return;
    switch (message.headers?.get(wireHeaders.type) as MessageType | undefined) {
      case 'renew':
        if (run.outcome) this.tell(run, reply);
        else this.say(run, reply, 'heartbeat');
        break;
      case 'cancel':
        run.callers.delete(reply);
        if (run.callers.size === 0) run.controller.abort();
        break;
      case 'bye':
        run.callers.delete(reply);
        break;
      default:
        break;
    }
  }

  private beat(run: Run): void {
    for (const reply of run.callers) this.say(run, reply, 'heartbeat');
  }

  /** The result if there is one, else how far it is. */
  private tell(run: Run, reply: string): void {
    if (run.outcome) this.send(run, reply, run.outcome.data, run.outcome.headers);
    else if (run.lastProgress) {
      this.send(run, reply, encodeJson(run.lastProgress), typed('progress'));
    }
  }

  private say(run: Run, reply: string, type: MessageType): void {
    this.send(run, reply, new Uint8Array(), typed(type));
  }

  private send(run: Run, reply: string, data: Uint8Array, headers: MsgHdrs): void {
    try {
      run.channel.send(reply, data, headers);
    } catch (error) {
      // The caller asks again; a result that is too large must still be told as such.
      const coded = toCodedError(error);
      this.logger.warn({ err: error }, 'a job could not answer');
      if (coded.code === 'SERVICE_MESSAGE_TOO_LARGE' && run.outcome?.ok) this.fail(run, coded);
    }
  }

  private forget(run: Run): void {
    clearTimeout(run.timer);
    run.channel.close();
    for (const runId of run.runIds) this.byRunId.delete(runId);
    if (this.byKey.get(run.key) === run) this.byKey.delete(run.key);
  }
}

function keyOf(request: ServiceRequest): string | undefined {
  const fenced = Fenced.safeParse(request.input);
  if (!fenced.success) return undefined;
  const { projectId, operationId } = fenced.data.fence;
  const hash = createHash('sha256').update(JSON.stringify(request.input)).digest('base64url');
  return `${request.subject} ${projectId} ${operationId} ${hash}`;
}
