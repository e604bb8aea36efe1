import { createServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import { parseConfig } from '@rookery/core';
import { HostId } from '@rookery/core/contract';
import ssh2, { type AuthContext, type Connection, type Session } from 'ssh2';
import type { z } from 'zod';
import { ProxyErrors } from '../proxy.errors.js';
import { SshAdmission } from './ssh-admission.js';
import { fail, parseReceiveCommand, runReceive } from './receive-session.js';
import { sshAlgorithms } from './ssh-algorithms.js';
import type {
  ProjectSshHandler,
  TransferAuthorizer,
  TransferReceiver,
} from './ssh-ingress.ports.js';
import { opensshPrivateKey } from './ssh-keys.js';
import { SshLimits } from './ssh-limits.js';

export interface SshIngressDependencies {
  /** Ed25519, PKCS#8 PEM or OpenSSH. */
  readonly hostKey: string;
  readonly authorizer: TransferAuthorizer;
  readonly receiver: TransferReceiver;
  /** Without it only transfers are served. */
  readonly projects?: ProjectSshHandler;
}

interface Login {
  readonly kind: 'transfer' | 'project';
  readonly name: string;
  readonly publicKey: string;
  /** Of transfers. */
  readonly sourceHostId: string;
}

/** `injectSocket` is public in ssh2 and missing in its types. */
type SshServer = InstanceType<typeof ssh2.Server> & { injectSocket(socket: Socket): void };

const transfersOnly =
  'This server takes transfers between hosts only; logins to projects are not enabled here.\r\n';

/**
 * The host's SSH port. A source logs in as `btrfs-<host id>` with its transfer key and gets one
 * thing: to send the streams of moves that it is authorized for. There is no shell, terminal,
 * subsystem, environment or forwarding behind it to be had.
 */
export class SshIngress {
  private readonly limits: SshLimits;
  private readonly ssh: SshServer;
  private readonly listener: NetServer;
  private readonly admission: SshAdmission;
  private readonly streams = new Set<Promise<void>>();
  private draining = false;

  constructor(
    private readonly parts: SshIngressDependencies,
    limits: z.input<typeof SshLimits> = {},
  ) {
    this.limits = parseConfig(SshLimits, limits);
    this.admission = new SshAdmission(this.limits);
    const options = {
      hostKeys: [opensshPrivateKey(parts.hostKey)],
      algorithms: sshAlgorithms,
      ident: 'Rookery',
      keepaliveInterval: this.limits.keepaliveMs,
      keepaliveCountMax: this.limits.keepalivesMissedMax,
      ...(!parts.projects && { banner: transfersOnly }),
    };
    this.ssh = new ssh2.Server(options);
    // Sockets are limited here before ssh2 sees them: it hears of a client only after its greeting.
    this.listener = createServer({ noDelay: true }, (socket) => this.admit(socket));
    this.ssh.on('connection', (connection) => this.onConnection(connection));
  }

  /** @returns the port */
  async listen(port: number, address?: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.listener.once('error', reject);
      this.listener.listen(port, address, () => {
        this.listener.off('error', reject);
        resolve();
      });
    });
    return (this.listener.address() as AddressInfo).port;
  }

  counts(): { readonly connections: number; readonly streams: number } {
    return { connections: this.admission.all.size, streams: this.streams.size };
  }

  /** Takes nothing new, lets streams end, cuts off the rest after `deadlineMs`. */
  async drain(deadlineMs: number): Promise<void> {
    this.draining = true;
    const closed = new Promise<void>((resolve) => this.listener.close(() => resolve()));
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      Promise.all(this.streams),
      new Promise<void>((resolve) => (timer = setTimeout(resolve, deadlineMs))),
    ]);
    clearTimeout(timer);
    for (const socket of this.admission.all) socket.destroy();
    await closed;
    await Promise.all(this.streams);
  }

  private admit(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    if (this.draining || !this.admission.admit(socket)) {
      socket.destroy();
      return;
    }
    const grace = setTimeout(() => {
      if (this.admission.isStranger(socket)) socket.destroy();
    }, this.limits.loginGraceMs);
    socket.once('close', () => clearTimeout(grace));
    this.ssh.injectSocket(socket);
  }

  private onConnection(connection: Connection): void {
    const { _sock: socket } = connection as unknown as { _sock: Socket };
    let attempts = 0;
    let login: Login | undefined;
    connection.on('error', () => socket.destroy());
    connection.on('authentication', (context) => {
      attempts += 1;
      if (attempts > this.limits.authAttemptsMax * 2) {
        socket.destroy();
        return;
      }
      void this.authenticate(context, socket).then(
        (known) => {
          if (!known) return context.reject(['publickey']);
          login = known;
          context.accept();
        },
        () => context.reject(['publickey']),
      );
    });
    connection.once('ready', () => {
      const project = login?.kind === 'project' ? login.name : undefined;
      if (!login || !this.admission.settle(socket, project)) socket.destroy();
      else if (login.kind === 'project') this.parts.projects?.serve(connection, login.name);
      else this.serveTransfers(connection, socket, login);
    });
  }

  /** The login, when the key shown is one of its keys and (second round) the signature is right. */
  private async authenticate(context: AuthContext, socket: Socket): Promise<Login | undefined> {
    if (context.method !== 'publickey' || context.key.algo !== 'ssh-ed25519') return undefined;
    const publicKey = `ssh-ed25519 ${context.key.data.toString('base64')}`;
    if (context.signature) {
      const key = ssh2.utils.parseKey(publicKey);
      if (key instanceof Error || !context.blob) return undefined;
      if (key.verify(context.blob, context.signature, context.hashAlgo) !== true) return undefined;
    }
    const name = context.username;
    const sourceHostId = sourceOf(name);
    if (sourceHostId !== undefined) {
      const moves = await this.parts.authorizer.authorize(sourceHostId, publicKey);
      if (moves !== null && moves.length > 0) this.admission.showedPeerKey(socket);
      return moves === null ? undefined : { kind: 'transfer', name, publicKey, sourceHostId };
    }
    const allowed = (await this.parts.projects?.mayLogin(name, publicKey)) ?? false;
    return allowed ? { kind: 'project', name, publicKey, sourceHostId: '' } : undefined;
  }

  private serveTransfers(connection: Connection, socket: Socket, login: Login): void {
    let sessions = 0;
    const idle = setTimeout(() => {
      if (sessions === 0) connection.end();
    }, this.limits.idleMs);
    socket.once('close', () => clearTimeout(idle));
    connection.on('session', (accept, reject) => {
      if (sessions >= this.limits.sessionsMax || this.draining) {
        reject();
        return;
      }
      sessions += 1;
      const session = accept();
      session.once('close', () => {
        sessions -= 1;
        idle.refresh();
      });
      this.serveSession(session, login);
    });
  }

  /** Only `exec` and `shell` have a listener (a shell to be told no): ssh2 refuses what has none. */
  private serveSession(session: Session, login: Login): void {
    session.once('exec', (accept, _reject, { command }) => {
      const channel = accept();
      const work = (async () => {
        try {
          const item = parseReceiveCommand(command);
          const { sourceHostId, publicKey } = login;
          const moves = await this.parts.authorizer.authorize(sourceHostId, publicKey);
          if (!moves?.includes(item.moveId)) {
            throw ProxyErrors.SSH_COMMAND_REFUSED({ reason: 'this move is not authorized' });
          }
          const transfer = { ...item, sourceHostId };
          await runReceive(channel, transfer, this.parts.receiver, this.limits.stallMs);
        } catch (error) {
          fail(channel, error);
        }
      })();
      this.streams.add(work);
      void work.finally(() => this.streams.delete(work));
    });
    session.once('shell', (accept) => {
      fail(accept(), ProxyErrors.SSH_COMMAND_REFUSED({ reason: 'there is no shell' }));
    });
  }
}

function sourceOf(login: string): string | undefined {
  if (!login.startsWith('btrfs-')) return undefined;
  const parsed = HostId.safeParse(login.slice('btrfs-'.length));
  return parsed.success ? parsed.data : undefined;
}
