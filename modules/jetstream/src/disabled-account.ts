import type { InternalClient, InternalMessage } from '@rookery/conat';
import { ApiReplies } from './engine/api-replies.js';
import { routeOf } from './engine/api-routes.js';
import { jsErrors } from './engine/js-errors.js';

const apiPrefix = '$JS.API.';
const unknownType = 'system_response';
/** Nobody listens there on a server when there is no stream or consumer. */
const unanswered = /^(DIRECT\.GET|CONSUMER\.MSG\.NEXT)\./;
const consumerRequest = /^CONSUMER\.(DURABLE\.CREATE|CREATE|NAMES|LIST|INFO|DELETE|PAUSE)\./;

/** In a space whose account has no JetStream: requests are answered with just that. */
export function refuseJetStream(client: InternalClient): void {
  const replies = new ApiReplies({ send: (message) => void client.publish(message) });
  client.subscribe(`${apiPrefix}>`, '', ({ subject, reply }: InternalMessage) => {
    const request = subject.slice(apiPrefix.length);
    const type = unanswered.test(request) ? unknownType : typeOf(request);
    if (type === unknownType) return false;
    const asked = { kind: 'api', subject: request, reply, headers: null } as const;
    replies.error({ ...asked, payload: Buffer.alloc(0) }, type, jsErrors.notEnabledForAccount());
    return true;
  });
}

function typeOf(request: string): string {
  const verb = consumerRequest.exec(request)?.[1];
  if (verb === undefined) return routeOf(request).route.type;
  return `consumer_${verb.replace('DURABLE.', '').toLowerCase()}_response`;
}
