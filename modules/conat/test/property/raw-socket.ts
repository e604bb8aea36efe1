import { once } from 'node:events';
import { WebSocket } from 'ws';

/** One thing that a server said. */
export type Heard =
  | { readonly kind: 'ok' | 'pong' }
  | { readonly kind: 'error'; readonly text: string }
  | {
      readonly kind: 'message';
      readonly subject: string;
      readonly sid: string;
      readonly reply: string;
      readonly headers: string;
      readonly payload: string;
    };

/** A client that says exactly the bytes it is told, over a real WebSocket. */
export class RawSocket {
  private input = Buffer.alloc(0);
  private heard: Heard[] = [];
  private pongs = 0;
  private wake: () => void = () => undefined;

  private constructor(private readonly socket: WebSocket) {
    socket.on('message', (data: Buffer) => this.receive(data));
    socket.on('close', () => this.wake());
    socket.on('error', () => undefined);
  }

  static async connect(url: string, options: object): Promise<RawSocket> {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    const client = new RawSocket(socket);
    await once(socket, 'open');
    client.say(`CONNECT ${JSON.stringify(options)}\r\n`);
    await client.flush();
    client.take();
    return client;
  }

  /** @param cuts where the bytes are cut into frames */
  say(bytes: string | Buffer, cuts: readonly number[] = []): void {
    const buffer = Buffer.from(bytes as string);
    let from = 0;
    for (const cut of [...cuts, buffer.length]) {
      if (cut > from && cut <= buffer.length) this.socket.send(buffer.subarray(from, cut));
      from = Math.max(from, cut);
    }
  }

  /** Resolves when the server has obeyed what was said, and all that it sent before has come. */
  async flush(): Promise<void> {
    const goal = this.pongs + 1;
    this.say('PING\r\n');
    while (this.pongs < goal) {
      if (this.socket.readyState !== WebSocket.OPEN) {
        throw new Error(
          `the server closed the connection: ${JSON.stringify(this.heard.slice(-3))}`,
        );
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  /** What came since the last time. */
  take(): Heard[] {
    const { heard } = this;
    this.heard = [];
    return heard;
  }

  async close(): Promise<void> {
    if (this.socket.readyState === WebSocket.CLOSED) return;
    const closed = once(this.socket, 'close');
    this.socket.terminate();
    await closed;
  }

  private receive(data: Buffer): void {
    this.input = Buffer.concat([this.input, data]);
    while (this.parseOne());
    this.wake();
  }

  private parseOne(): boolean {
    const end = this.input.indexOf('\r\n');
    if (end < 0) return false;
    const line = this.input.toString('utf8', 0, end);
    const [verb, ...words] = line.split(' ');
    let length = end + 2;
    if (verb === 'MSG' || verb === 'HMSG') {
      const sizes = words.slice(verb === 'MSG' ? -1 : -2).map(Number);
      const size = sizes.at(-1)!;
      const headerSize = verb === 'MSG' ? 0 : sizes[0]!;
      length += size + 2;
      if (this.input.length < length) return false;
      const rest = words.slice(0, -sizes.length);
      const body = this.input.subarray(end + 2, end + 2 + size);
      this.heard.push({
        kind: 'message',
        subject: rest[0]!,
        sid: rest[1]!,
        reply: rest[2] ?? '',
        headers: body.toString('latin1', 0, headerSize),
        payload: body.toString('latin1', headerSize),
      });
    } else if (verb === '+OK') this.heard.push({ kind: 'ok' });
    else if (verb === '-ERR') this.heard.push({ kind: 'error', text: line });
    else if (verb === 'PONG') this.pongs += 1;
    else if (verb === 'PING') this.say('PONG\r\n');
    this.input = this.input.subarray(length);
    return true;
  }
}
