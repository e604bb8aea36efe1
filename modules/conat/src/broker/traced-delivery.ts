import type { InternalClient } from './internal-client.js';
import type { MessageTrace } from './message-trace.js';
import type { PublishOp } from './parser.js';
import type { Listener, Publisher, Subscription } from './ports.js';
import type { Match } from './sublist.js';

/** Whoever goes on with a trace, as a stream does. */
const goesOn = (subscription: Subscription): boolean =>
  tracing(subscription.client)?.traces(subscription) ?? false;

const tracing = (client: Listener): InternalClient | null =>
  'traces' in client ? (client as InternalClient) : null;

/**
 * Brings a traced message to those who hear it, or only says who they are. Streams come last: what
 * they are handed is the whole trace so far.
 * @returns how many heard it, or would have
 */
export function deliverTraced(
  { plain, groups }: Match<Subscription>,
  from: Publisher,
  op: PublishOp,
  trace: MessageTrace,
): number {
  let heard = 0;
  for (const subscription of plain) {
    if (!goesOn(subscription) && deliver(subscription, from, op, trace)) heard += 1;
  }
  for (const group of groups) {
    const start = Math.floor(Math.random() * group.length);
    const order = [...group.slice(start), ...group.slice(0, start)];
    if (order.some((subscription) => deliver(subscription, from, op, trace))) heard += 1;
  }
  for (const subscription of plain) {
    if (!goesOn(subscription)) continue;
    if (tracing(subscription.client)!.deliverTraced(subscription, op, from, trace)) heard += 1;
  }
  return heard;
}

function deliver(
  subscription: Subscription,
  from: Publisher,
  op: PublishOp,
  trace: MessageTrace,
): boolean {
  const deaf = deafness(subscription, from, op.subject);
  const heard =
    deaf === undefined && (trace.only || subscription.client.deliver(subscription, op, from));
  if (heard) trace.egress(subscription);
  else trace.egress(subscription, deaf ?? 'Not delivered because client is closed');
  return heard;
}

/** Why a subscription does not hear a message; undefined when it does. */
function deafness(
  subscription: Subscription,
  from: Publisher,
  subject: string,
): string | undefined {
  const { client } = subscription;
  if ((client as Publisher) === from && !from.hearsItself)
    return 'Not delivered because of no echo';
  if (isOutside(client) && !client.isHeard(subscription, subject)) {
    return 'Not delivered because subscription denies this subject';
  }
  return undefined;
}

const isOutside = ({ traceAs }: Listener): boolean => traceAs.kind === 'client';
