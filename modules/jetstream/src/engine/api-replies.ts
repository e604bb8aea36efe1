import type { JetStreamApiError } from './api-error.js';
import type { ApiInput, Outbox } from './engine-io.js';
import { encodeJson } from './json.js';
import { zeroTime } from '@rookery/conat/contract';

const typePrefix = 'io.nats.jetstream.api.v1.';

const noPage = { total: 0, offset: 0, limit: 0 };
/** What a server answers beside an error, because Go writes what is not set. */
const besideError: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  stream_info_response: noPage,
  stream_names_response: { ...noPage, streams: null },
  stream_list_response: { ...noPage, streams: [] },
  consumer_names_response: { ...noPage, consumers: [] },
  consumer_list_response: { ...noPage, consumers: [] },
  consumer_pause_response: { paused: false, pause_until: zeroTime },
  stream_purge_response: { purged: 0 },
  stream_restore_response: { deliver_subject: '' },
};

/** Answers requests to the API and counts them, as account information shows. */
export class ApiReplies {
  total = 0;
  errors = 0;

  constructor(private readonly outbox: Pick<Outbox, 'send'>) {}

  /** @param type without its prefix: `stream_create_response` */
  ok(request: ApiInput, type: string, body: Readonly<Record<string, unknown>>): void {
    this.total += 1;
    this.send(request.reply, { type: typePrefix + type, ...body });
  }

  error(request: ApiInput, type: string, error: JetStreamApiError): void {
    this.total += 1;
    this.errors += 1;
    const body = { type: typePrefix + type, error: error.apiError, ...besideError[type] };
    this.send(request.reply, body);
  }

  /** Without counting: a server does not count messages that are read. */
  uncounted(request: ApiInput, type: string, body: Readonly<Record<string, unknown>>): void {
    this.send(request.reply, { type: typePrefix + type, ...body });
  }

  private send(to: string, body: Readonly<Record<string, unknown>>): void {
    if (to === '') return;
    this.outbox.send({ to, shown: '', reply: '', headers: null, payload: encodeJson(body) });
  }
}
