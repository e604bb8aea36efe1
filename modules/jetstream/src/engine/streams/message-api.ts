import { z } from 'zod';
import type { ApiReplies } from '../api-replies.js';
import type { StoredMessage } from '../account-store.js';
import type { ApiInput } from '../engine-io.js';
import { jsErrors } from '../js-errors.js';
import { formatTime } from '@rookery/conat/contract';
import { MessageGetRequest, nextMessage } from './direct-get.js';
import { isEmptyRequest, readRequest } from './request.js';
import { checkLevel } from './stream-api.js';
import type { Stream } from './stream.js';
import type { StreamSet } from './stream-set.js';

const DeleteRequest = z.strictObject({
  seq: z.number().refine(Number.isInteger, 'not an integer').default(0),
  no_erase: z.boolean().default(false),
});

/** `STREAM.MSG.*`: single messages in JSON. */
export class MessageApi {
  constructor(
    private readonly streams: StreamSet,
    private readonly replies: ApiReplies,
  ) {}

  get(request: ApiInput, name: string): void {
    checkLevel(request);
    if (isEmptyRequest(request.payload)) throw jsErrors.badRequest();
    const asked = readRequest(MessageGetRequest, request);
    if (!isSensible(asked)) throw jsErrors.badRequest();
    const message = find(this.require(name), asked);
    if (!message) throw jsErrors.noMessageFound();
    const shown = {
      subject: message.subject,
      seq: message.seq,
      hdrs: asked.no_hdr ? undefined : message.headers?.toString('base64'),
      data: message.payload.length > 0 ? message.payload.toString('base64') : undefined,
      time: formatTime(message.timeNs),
    };
    this.replies.uncounted(request, 'stream_msg_get_response', { message: shown });
  }

  delete(request: ApiInput, name: string): void {
    checkLevel(request);
    if (isEmptyRequest(request.payload)) throw jsErrors.badRequest();
    const { seq, no_erase: noErase } = readRequest(DeleteRequest, request);
    const stream = this.require(name);
    if (stream.config.sealed) throw jsErrors.streamSealed();
    if (stream.config.deny_delete) {
      throw jsErrors.messageDeleteFailed('message delete not permitted');
    }
    if (!stream.remove([seq], !noErase)) throw whyNotRemoved(stream, seq);
    this.replies.ok(request, 'stream_msg_delete_response', { success: true });
  }

  private require(name: string): Stream {
    const stream = this.streams.get(name);
    if (!stream) throw jsErrors.streamNotFound();
    return stream;
  }
}

function isSensible(asked: MessageGetRequest): boolean {
  const { seq, last_by_subj: last, next_by_subj: next, start_time: start } = asked;
  if (asked.batch > 0 || asked.max_bytes > 0) return false;
  if (seq === 0 && last === '' && next === '' && start === undefined) return false;
  if (seq > 0 && (last !== '' || start !== undefined)) return false;
  return last === '' || (start === undefined && next === '');
}

function find({ store }: Stream, asked: MessageGetRequest): StoredMessage | null {
  const from = asked.start_time === undefined ? asked.seq : store.seqAtTime(asked.start_time);
  if (asked.next_by_subj !== '') return nextMessage(store, from, asked.next_by_subj);
  return from > 0 ? store.get(from) : store.last(asked.last_by_subj);
}

/** A server says different things of what never was, what is behind and what is a gap. */
function whyNotRemoved({ store }: Stream, seq: number): Error {
  const { firstSeq, lastSeq, messages } = store.state;
  if (seq > lastSeq) return jsErrors.messageDeleteFailed('stream store EOF');
  if (messages === 0 || seq < firstSeq) return jsErrors.messageDeleteFailed('no message found');
  return jsErrors.sequenceNotFound(seq);
}
