import { waitFor } from '@rookery/core';
import type { Broker } from '../broker/broker.js';
import type { Connection, Transport } from '../broker/ports.js';

/** A client that says exactly the bytes it is told, straight to a broker. */
export class RawClient {
  output = Buffer.alloc(0);
  closed: { code: number; reason: string } | null = null;
  bufferedBytes = 0;
  /** The broker reads nothing from it at the moment. */
  paused = false;
  frames: number[] = [];
  readonly connection: Connection;

  constructor(broker: Broker, peer = 'test') {
    const transport: Transport = {
      kind: 'memory',
      pause: () => (this.paused = true),
      resume: () => (this.paused = false),
      peer,
      bufferedBytes: 0,
      send: (frame) => {
        this.frames.push(frame.length);
        this.output = Buffer.concat([this.output, frame]);
      },
      close: (code, reason) => {
        this.closed = { code, reason };
        setImmediate(() => this.connection.lost());
      },
    };
    Object.defineProperty(transport, 'bufferedBytes', { get: () => this.bufferedBytes });
    this.connection = broker.accept(transport);
  }

  /** Signs in and forgets the greeting. */
  static async ready(broker: Broker, options: object = {}): Promise<RawClient> {
    const client = new RawClient(broker);
    const defaults = { verbose: false, pedantic: false, headers: true, no_responders: true };
    client.say(`CONNECT ${JSON.stringify({ ...defaults, ...options })}\r\nPING\r\n`);
    await client.heard('PONG\r\n');
    client.forget();
    return client;
  }

  get text(): string {
    return this.output.toString('latin1');
  }

  say(bytes: string | Buffer): void {
    this.connection.receive(Buffer.from(bytes as string));
  }

  forget(): void {
    this.output = Buffer.alloc(0);
    this.frames = [];
  }

  async heard(part: string): Promise<string> {
    await waitFor(`"${part}" in "${this.text.slice(-500)}"`, () => this.text.includes(part), {
      timeoutMs: 3_000,
      everyMs: 2,
    });
    return this.text;
  }

  /** All that was answered to what was said so far. */
  async answers(): Promise<string> {
    this.say('PING\r\n');
    const text = await this.heard('PONG\r\n');
    this.forget();
    return text.replace('PONG\r\n', '');
  }

  async gone(): Promise<{ code: number; reason: string }> {
    return waitFor('the connection is closed', () => this.closed ?? undefined, {
      timeoutMs: 3_000,
      everyMs: 2,
    });
  }
}
