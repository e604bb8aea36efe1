import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { Agent, request, type IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { selfSignedCertificate } from '@rookery/core/testing';

/** HTTPS before a hub, as an operator's load balancer: all names lead to the one hub behind it. */
export class TlsTerminator {
  /** The hub's port, once it is known. */
  target = 0;
  private readonly open = new Set<Duplex>();
  private readonly agent = new Agent();

  private constructor(private readonly server: Server) {
    server.on('request', (req, res) => {
      const { method, url: path } = req;
      const onward = request(
        {
          host: '127.0.0.1',
          port: this.target,
          method,
          path,
          agent: this.agent,
          headers: this.headersOf(req),
        },
        (answer) => {
          res.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(res);
        },
      );
      onward.on('error', () => res.destroy());
      req.pipe(onward);
    });
    server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
      const onward = connect(this.target, '127.0.0.1');
      for (const side of [socket, onward]) {
        this.open.add(side);
        side.on('error', () => side.destroy());
      }
      socket.once('close', () => onward.destroy());
      onward.once('close', () => socket.destroy());
      const lines = Object.entries(this.headersOf(req)).map(
        ([name, value]) => `${name}: ${String(value)}`,
      );
      onward.write(`${req.method} ${req.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
  }

  static async start(): Promise<TlsTerminator> {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-tls-'));
    const { key, cert } = await selfSignedCertificate(folder, { commonName: 'rookery.localhost' });
    const files = { key: await readFile(key), cert: await readFile(cert) };
    await rm(folder, { recursive: true });
    const terminator = new TlsTerminator(createServer(files));
    await new Promise<void>((resolve) => terminator.server.listen(0, '127.0.0.1', resolve));
    return terminator;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const side of this.open) side.destroy();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private headersOf(req: IncomingMessage): Record<string, string | string[] | undefined> {
    return {
      ...req.headers,
      'x-forwarded-for': req.socket.remoteAddress,
      'x-forwarded-proto': 'https',
      'x-forwarded-host': req.headers.host,
    };
  }
}
