import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { waitFor } from '@rookery/core';

/** A TCP connection that says exactly the bytes it is told. */
export class RawSocket {
  private chunks: Buffer[] = [];
  closed = false;

  private constructor(readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.chunks.push(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => (this.closed = true));
  }

  static async open(port: number): Promise<RawSocket> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new RawSocket(socket);
  }

  get text(): string {
    if (this.chunks.length > 1) this.chunks = [Buffer.concat(this.chunks)];
    return this.chunks[0]?.toString('latin1') ?? '';
  }

  say(bytes: string | Buffer): void {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  }

  async heard(part: string | RegExp): Promise<string> {
    const is = (): boolean =>
      typeof part === 'string' ? this.text.includes(part) : part.test(this.text);
    await waitFor(`${part} in "${this.text.slice(-300)}"`, is, { timeoutMs: 20_000, everyMs: 5 });
    return this.text;
  }

  /** All that came until as many PONGs as `pings`, or the end. */
  async transcript(pings: number): Promise<string> {
    await waitFor(
      `${pings} PONGs or the end, after "${this.text.slice(-300)}"`,
      () => this.closed || this.text.split('PONG\r\n').length > pings,
      { timeoutMs: 20_000, everyMs: 2 },
    );
    return this.text;
  }

  async gone(): Promise<string> {
    await waitFor('the connection is closed', () => this.closed, { timeoutMs: 20_000, everyMs: 5 });
    return this.text;
  }

  destroy(): void {
    this.socket.destroy();
  }
}
