import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

const answeredLast = Symbol('answered last');
interface Closing extends Socket {
  [answeredLast]?: true;
}

/**
 * The answer to this request says `Connection: close`. Node parses on until that answer has left:
 * requests that came in one piece with this one would be served meanwhile, unanswered.
 */
export function answersLast(req: IncomingMessage): void {
  (req.socket as Closing)[answeredLast] = true;
}

/** True for a request behind the one whose answer closes the connection: nobody may act on it. */
export const isBehindLast = (req: IncomingMessage): boolean =>
  (req.socket as Closing)[answeredLast] === true;
