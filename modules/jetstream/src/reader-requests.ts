import { z } from 'zod';
import { readerKey, type ApiInput, type OutgoingMessage } from './engine/engine-io.js';
import { inboxRoot } from '@rookery/conat/contract';

/** As much of a request for a consumer as decides whether it only reads. */
const CreateRequest = z.looseObject({
  config: z.looseObject({
    durable_name: z.string().optional(),
    ack_policy: z.string().optional(),
    deliver_subject: z.string().optional(),
    metadata: z.record(z.string(), z.string()).optional(),
  }),
});

const creates = /^CONSUMER\.CREATE\./;
/** JetStream’s number for a consumer that could not be made. */
const createFailed = 10_012;
const description = 'who may only read needs an ephemeral consumer without acknowledgements';

/**
 * A request for a consumer by somebody who may only read. What reads must not write by the way: an
 * acknowledgement takes messages from work queues, a durable name could be that of somebody else's
 * consumer, a deliver subject other than one's own inbox is a publication.
 *
 * @param reader the name of who asks
 * @returns the request as it may go on, or null
 */
export function readerRequest(request: ApiInput, reader: string): ApiInput | null {
  if (!creates.test(request.subject)) return { ...request, reader };
  try {
    const body = CreateRequest.parse(JSON.parse(request.payload.toString('utf8')));
    const { durable_name: durable, ack_policy: acks, deliver_subject: to } = body.config;
    if (durable || acks !== 'none' || (to && !to.startsWith(inboxRoot))) return null;
    const config = { ...body.config, metadata: { ...body.config.metadata, [readerKey]: reader } };
    // Never an update of one that is there.
    const payload = Buffer.from(JSON.stringify({ ...body, config, action: 'create' }));
    return { ...request, payload, reader };
  } catch {
    return null;
  }
}

/** What the reader hears instead; null when it does not listen. */
export function readerRefusal({ reply }: ApiInput): OutgoingMessage | null {
  if (reply === '') return null;
  const body = {
    type: 'io.nats.jetstream.api.v1.consumer_create_response',
    error: { code: 403, err_code: createFailed, description },
  };
  const payload = Buffer.from(JSON.stringify(body));
  return { to: reply, shown: '', reply: '', headers: null, payload };
}
