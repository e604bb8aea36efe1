import { closeSync } from 'node:fs';
import { Agent, type AgentOptions, type ClientRequestArgs } from 'node:http';
import { connect, isIPv6, Socket, type SocketConstructorOpts } from 'node:net';
import { linkSocket } from '@rookery/core';

/** An agent whose every connection is bound to one link of this machine; its pool is that link's. */
export class LinkAgent extends Agent {
  constructor(
    private readonly linkIndex: number,
    options: AgentOptions,
  ) {
    super(options);
  }

  override createConnection(options: ClientRequestArgs): Socket {
    const { host, port } = options;
    if (typeof host !== 'string') throw new TypeError('a link is dialed by address');
    return connectThrough(this.linkIndex, host, Number(port));
  }

  /** True when nothing of it is open or wanted: it may be forgotten. */
  isUnused(): boolean {
    const nothing = (lists: NodeJS.ReadOnlyDict<unknown>): boolean => {
      for (const _ in lists) return false;
      return true;
    };
    return nothing(this.sockets) && nothing(this.freeSockets) && nothing(this.requests);
  }
}

/**
 * Connects without waiting, through one link if that is named; the socket says `connect` or fails.
 */
export function dial(linkIndex: number | undefined, host: string, port: number): Socket {
  if (linkIndex === undefined) return connect({ host, port });
  return connectThrough(linkIndex, host, port);
}

/** Connects without waiting; the socket says `connect` or fails, as `net.connect` would. */
function connectThrough(linkIndex: number, host: string, port: number): Socket {
  const fd = linkSocket(linkIndex, isIPv6(host) ? 6 : 4);
  // `manualStart`: a socket with a descriptor would be read at once, and this one is not connected.
  const options: SocketConstructorOpts & { manualStart: boolean; noDelay: boolean } = {
    fd,
    manualStart: true,
    noDelay: true,
  };
  let socket: Socket;
  try {
    socket = new Socket(options);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return socket.connect({ host, port });
}
