import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import ssh2, { type Connection } from 'ssh2';
import { CoreErrors, newId, SystemExec, waitFor, type ExecResult } from '@rookery/core';
import {
  generateSshKeyPair,
  opensshPrivateKey,
  type ProjectSshHandler,
  SshIngress,
  sshPublicKeyOf,
  TransferAuthorizer,
  TransferReceiver,
  TransferSender,
  type IncomingTransfer,
  type SshLimits,
} from '@rookery/proxy';

const MiB = 1024 * 1024;
const sourceHostId = newId();
const moveId = newId();
const transferKey = generateSshKeyPair();
const hostKey = generateSshKeyPair();
const item = { moveId, kind: 'delta', name: 'move-1' } as const;

class OneMove extends TransferAuthorizer {
  moves: string[] = [moveId];
  async authorize(host: string, publicKey: string): Promise<readonly string[] | null> {
    return host === sourceHostId && publicKey === transferKey.publicKey ? this.moves : null;
  }
}

type Take = (stream: Readable, signal: AbortSignal) => Promise<{ receivedUuid?: string }>;

class ScriptedReceiver extends TransferReceiver {
  take: Take = hashAll;
  readonly seen: IncomingTransfer[] = [];
  lastError: unknown;
  async receive(transfer: IncomingTransfer, stream: Readable, signal: AbortSignal) {
    this.seen.push(transfer);
    try {
      return await this.take(stream, signal);
    } catch (error) {
      this.lastError = error;
      throw error;
    }
  }
}

async function hashAll(stream: Readable): Promise<{ receivedUuid: string }> {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk as Buffer);
  return { receivedUuid: hash.digest('hex') };
}

describe('SSH ingress', () => {
  const exec = new SystemExec();
  let folder: string;
  let authorizer: OneMove;
  let receiver: ScriptedReceiver;
  let ingress: SshIngress;
  let port: number;

  const start = async (limits: Partial<SshLimits> = {}): Promise<void> => {
    authorizer = new OneMove();
    receiver = new ScriptedReceiver();
    ingress = new SshIngress({ hostKey: hostKey.privateKey, authorizer, receiver }, limits);
    port = await ingress.listen(0, '127.0.0.1');
  };
  const target = () => ({ sshHost: '127.0.0.1', sshPort: port, ingressKey: hostKey.publicKey });
  const sender = (limits: Partial<SshLimits> = {}) =>
    new TransferSender({ sourceHostId, privateKey: transferKey.privateKey }, limits);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-ssh-'));
    await writeFile(join(folder, 'key'), transferKey.privateKey, { mode: 0o600 });
    await writeFile(join(folder, 'other'), generateSshKeyPair().privateKey, { mode: 0o600 });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  beforeEach(() => start());
  afterEach(() => ingress.drain(0));

  const ssh = async (args: string[], key = 'key', login = `btrfs-${sourceHostId}`) => {
    await writeFile(join(folder, 'known_hosts'), `[127.0.0.1]:${port} ${hostKey.publicKey}\n`);
    const options = [
      'BatchMode=yes',
      'IdentitiesOnly=yes',
      `UserKnownHostsFile=${folder}/known_hosts`,
    ];
    return exec.run(
      [
        'ssh',
        '-F',
        'none',
        ...options.flatMap((option) => ['-o', option]),
        '-i',
        join(folder, key),
        '-p',
        String(port),
        '-l',
        login,
        ...args,
      ],
      { okExits: Array.from({ length: 256 }, (_, i) => i), timeoutMs: 15_000, input: 'payload' },
    );
  };
  const coded = (result: ExecResult): unknown => {
    const line = result.stderr.split('\n').find((text) => text.startsWith('{')) ?? '{}';
    return (JSON.parse(line) as { code?: unknown }).code;
  };

  describe('with the OpenSSH client', () => {
    it('receives for the authorized move', async () => {
      const result = await ssh(['127.0.0.1', `receive ${moveId} delta move-1`]);
      expect(result).toMatchObject({ exit: 0 });
      const receivedUuid = createHash('sha256').update('payload').digest('hex');
      expect(JSON.parse(result.stdout)).toEqual({ receivedUuid, bytes: 7 });
      expect(receiver.seen).toEqual([{ ...item, sourceHostId }]);
    });

    it.each([
      ['another move', `receive ${newId()} delta move-1`],
      ['another command', 'id'],
      ['a second command', `receive ${moveId} delta move-1; id`],
      ['a second line', `receive ${moveId} delta move-1\n`],
      ['a path for a name', `receive ${moveId} delta ../../etc`],
      ['an unknown kind', `receive ${moveId} everything move-1`],
    ])('refuses %s', async (_what, command) => {
      const result = await ssh(['127.0.0.1', command]);
      expect(result.exit).toBe(1);
      expect(coded(result)).toBe('SSH_COMMAND_REFUSED');
      expect(receiver.seen).toEqual([]);
    });

    it('refuses a move whose authorization was withdrawn', async () => {
      authorizer.moves = [];
      const result = await ssh(['127.0.0.1', `receive ${moveId} delta move-1`]);
      expect(coded(result)).toBe('SSH_COMMAND_REFUSED');
    });

    it('refuses a shell and a terminal', async () => {
      const shell = await ssh(['-T', '127.0.0.1']);
      expect(shell.exit).toBe(1);
      expect(coded(shell)).toBe('SSH_COMMAND_REFUSED');
      const terminal = await ssh(['-tt', '127.0.0.1']);
      expect(terminal.exit).toBe(255);
      expect(terminal.stderr).toMatch(/PTY allocation request failed/);
    });

    it('refuses sftp', async () => {
      const sftp = await ssh(['-s', '127.0.0.1', 'sftp']);
      expect(sftp.exit).not.toBe(0);
      expect(sftp.stderr).toMatch(/subsystem request failed/);
    });

    it('refuses forwarding out and back', async () => {
      const out = await ssh(['-W', `127.0.0.1:${port}`, '127.0.0.1']);
      expect(out.exit).not.toBe(0);
      expect(out.stderr).toMatch(/administratively prohibited|open failed/);
      const back = await ssh([
        '-o',
        'ExitOnForwardFailure=yes',
        '-N',
        '-R',
        '0:127.0.0.1:1',
        '127.0.0.1',
      ]);
      expect(back.exit).not.toBe(0);
      expect(back.stderr).toMatch(/remote port forwarding failed/);
    });

    it('refuses another key, another host and other logins, and says what it serves', async () => {
      const command = `receive ${moveId} delta move-1`;
      const otherKey = await ssh(['127.0.0.1', command], 'other');
      expect(otherKey).toMatchObject({
        exit: 255,
        stderr: expect.stringMatching(/Permission denied/),
      });
      const otherHost = await ssh(['127.0.0.1', command], 'key', `btrfs-${newId()}`);
      expect(otherHost.exit).toBe(255);
      const project = await ssh(['127.0.0.1'], 'key', newId());
      expect(project.exit).toBe(255);
      expect(project.stderr).toMatch(/takes transfers between hosts only/);
      expect(receiver.seen).toEqual([]);
    });

    it.each([
      ['a NIST curve', 'KexAlgorithms=ecdh-sha2-nistp256', /no matching key exchange/],
      ['CTR with a separate MAC', 'Ciphers=aes128-ctr', /no matching cipher/],
    ])('does not speak %s', async (_what, option, message) => {
      const result = await ssh(['-o', option, '127.0.0.1', `receive ${moveId} delta move-1`]);
      expect(result.exit).toBe(255);
      expect(result.stderr).toMatch(message);
    });
  });

  describe('with the sender', () => {
    it('carries a big stream, counts it, and gives the result', async () => {
      const chunk = randomBytes(MiB);
      const chunks = 64;
      const hash = createHash('sha256');
      for (let i = 0; i < chunks; i += 1) hash.update(chunk);
      let reported = 0;
      const stream = Readable.from(Array.from({ length: chunks }, () => chunk));
      const onProgress = (bytes: number): void => void (reported = bytes);
      const result = await sender().send(target(), item, stream, { onProgress });
      expect(result).toEqual({ receivedUuid: hash.digest('hex'), bytes: chunks * MiB });
      expect(reported).toBe(chunks * MiB);
    });

    it('sends several streams over one login, also side by side', async () => {
      const connection = await sender().connect(target());
      const one = (text: string) => connection.send(item, Readable.from([Buffer.from(text)]));
      await one('first');
      const results = await Promise.all([one('a'), one('bb'), one('ccc')]);
      expect(results.map((result) => result.bytes)).toEqual([1, 2, 3]);
      connection.close();
      await waitFor('it is gone', () => ingress.counts().connections === 0, { timeoutMs: 5000 });
    });

    it('takes keys in PEM form at both ends', async () => {
      const { privateKey } = generateKeyPairSync('ed25519');
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      await ingress.drain(0);
      ingress = new SshIngress({ hostKey: pem, authorizer, receiver });
      port = await ingress.listen(0, '127.0.0.1');
      const ingressKey = sshPublicKeyOf(pem);
      const result = await sender().send({ ...target(), ingressKey }, item, Readable.from(['x']));
      expect(result.bytes).toBe(1);
      await writeFile(join(folder, 'pem'), opensshPrivateKey(pem), { mode: 0o600 });
      const { stdout } = await exec.run(['ssh-keygen', '-y', '-f', join(folder, 'pem')]);
      expect(stdout).toContain(ingressKey);
    });

    it('holds the source back while the receiver does not read', async () => {
      let produced = 0;
      let release!: () => void;
      const released = new Promise<void>((resolve) => (release = resolve));
      receiver.take = async (stream) => {
        await released;
        return hashAll(stream);
      };
      const chunk = Buffer.alloc(64 * 1024);
      const stream = Readable.from(
        (function* () {
          for (; produced < 100 * MiB; produced += chunk.length) yield chunk;
        })(),
      );
      const sent = sender().send(target(), item, stream);
      await waitFor('it has filled what buffers there are', () => produced > MiB, {
        timeoutMs: 5000,
      });
      let before = -1;
      await waitFor(
        'production has stopped',
        () => {
          const stopped = before === produced;
          before = produced;
          return stopped;
        },
        { timeoutMs: 10_000, everyMs: 300 },
      );
      expect(produced).toBeLessThan(16 * MiB);
      release();
      expect((await sent).bytes).toBe(produced);
    });

    it('refuses a host key other than the pinned one before it shows its own', async () => {
      const ingressKey = generateSshKeyPair().publicKey;
      const sent = sender().send({ ...target(), ingressKey }, item, Readable.from(['x']));
      await expect(sent).rejects.toMatchObject({ code: 'HOST_KEY_MISMATCH' });
    });

    it('says TRANSFER_REFUSED for a strange key and for another move', async () => {
      const stranger = new TransferSender({
        sourceHostId,
        privateKey: generateSshKeyPair().privateKey,
      });
      const first = stranger.send(target(), item, Readable.from(['x']));
      await expect(first).rejects.toMatchObject({ code: 'TRANSFER_REFUSED', retryable: false });
      const other = sender().send(target(), { ...item, moveId: newId() }, Readable.from(['x']));
      await expect(other).rejects.toMatchObject({ code: 'TRANSFER_REFUSED' });
    });

    it('says TRANSFER_FAILED, worth a retry, when nobody listens', async () => {
      const nobody = { ...target() };
      await ingress.drain(0);
      const sent = sender().send(nobody, item, Readable.from(['x']));
      await expect(sent).rejects.toMatchObject({ code: 'TRANSFER_FAILED', retryable: true });
    });

    it("hands on the receiver's coded error, also in the middle of a stream", async () => {
      receiver.take = async (stream) => {
        for await (const _chunk of stream) break;
        throw CoreErrors.NOT_FOUND({ what: 'landing area', id: moveId });
      };
      const endless = Readable.from(
        (function* () {
          for (;;) yield Buffer.alloc(64 * 1024);
        })(),
      );
      const sent = sender().send(target(), item, endless);
      await expect(sent).rejects.toMatchObject({ code: 'NOT_FOUND', status: 404 });
      expect(endless.destroyed).toBe(true);
    });

    it('does not take a broken source for the end of the stream', async () => {
      const stream = Readable.from(
        (async function* () {
          yield Buffer.alloc(MiB);
          throw new Error('send died');
        })(),
      );
      await expect(sender().send(target(), item, stream)).rejects.toMatchObject({
        code: 'TRANSFER_FAILED',
        retryable: true,
      });
      await waitFor('the receiver knows', () => receiver.lastError !== undefined, {
        timeoutMs: 5000,
      });
      expect(receiver.lastError).toMatchObject({ code: 'TRANSFER_FAILED' });
    });

    it('aborts on request and tells the receiver', async () => {
      const abort = new AbortController();
      let signalSeen: AbortSignal | undefined;
      receiver.take = (stream, signal) => {
        signalSeen = signal;
        return hashAll(stream);
      };
      const silent = new Readable({ read: () => undefined });
      const sent = sender().send(target(), item, silent, { signal: abort.signal });
      await waitFor('it has begun', () => signalSeen !== undefined, { timeoutMs: 5000 });
      abort.abort(CoreErrors.CANCELED());
      await expect(sent).rejects.toMatchObject({ code: 'CANCELED' });
      await waitFor('the receiver knows', () => signalSeen?.aborted === true, { timeoutMs: 5000 });
      expect(receiver.lastError).toMatchObject({ code: 'TRANSFER_FAILED' });
    });

    it('gives up on a stream that stalls', async () => {
      await ingress.drain(0);
      await start({ stallMs: 200 });
      const silent = new Readable({ read: () => undefined });
      const sent = sender().send(target(), item, silent);
      await expect(sent).rejects.toMatchObject({ code: 'TRANSFER_STALLED' });
    });

    it('cuts streams off at the end of a drain', async () => {
      const silent = new Readable({ read: () => undefined });
      const sent = sender().send(target(), item, silent);
      sent.catch(() => undefined);
      await waitFor('it has begun', () => receiver.seen.length > 0, { timeoutMs: 5000 });
      await ingress.drain(50);
      await expect(sent).rejects.toMatchObject({ code: 'TRANSFER_FAILED' });
      expect(ingress.counts()).toEqual({ connections: 0, streams: 0 });
    });
  });

  describe('towards strangers', () => {
    it('closes a connection that does not log in, and takes only so many of them', async () => {
      await ingress.drain(0);
      await start({ loginGraceMs: 1000, unauthenticatedMax: 3 });
      const ends = Array.from({ length: 5 }, () => {
        const socket = connect(port, '127.0.0.1');
        socket.on('error', () => undefined).resume();
        return new Promise((resolve) => socket.once('close', resolve));
      });
      await waitFor('the limit is reached', () => ingress.counts().connections === 3, {
        timeoutMs: 5000,
      });
      await Promise.all(ends);
      await waitFor('all are gone', () => ingress.counts().connections === 0, { timeoutMs: 5000 });
      expect((await sender().send(target(), item, Readable.from(['x']))).bytes).toBe(1);
    });

    /** Opens connections that never say a word, from addresses of this machine's own. */
    const idle = async (count: number, addresses: number): Promise<Socket[]> => {
      const sockets = Array.from({ length: count }, (_, n) => {
        const localAddress = `127.0.0.${2 + (n % addresses)}`;
        return connect({ port, host: '127.0.0.1', localAddress })
          .on('error', () => undefined)
          .resume();
      });
      await Promise.all(sockets.map((socket) => once(socket, 'connect')));
      await waitFor('the port has no place left', () => ingress.counts().connections >= 16, {
        timeoutMs: 5000,
      });
      return sockets;
    };

    it.each([
      ['many addresses', 200, 100],
      ['four addresses', 64, 4],
      ['the address of the host that sends', 40, 1],
    ])(
      'lets a move in though idle connections from %s take every place',
      async (_, count, many) => {
        const sockets = await idle(count, many);
        const localAddress = '127.0.0.2';
        const socket = connect({ port, host: '127.0.0.1', localAddress });
        const client = new ssh2.Client();
        try {
          await new Promise<void>((resolve, reject) => {
            const login = { username: `btrfs-${sourceHostId}`, privateKey: transferKey.privateKey };
            client
              .once('ready', resolve)
              .once('error', reject)
              .connect({ sock: socket, ...login });
          });
          expect((await sender().send(target(), item, Readable.from(['x']))).bytes).toBe(1);
          expect(ingress.counts().connections).toBeLessThanOrEqual(65);
        } finally {
          client.destroy();
          for (const one of sockets) one.destroy();
        }
      },
    );

    it('keeps places for moves that logins to projects cannot take', async () => {
      await ingress.drain(0);
      const served = new Set<Connection>();
      const projects: ProjectSshHandler = {
        mayLogin: async () => true,
        serve: (connection) => void served.add(connection),
      };
      const limits = { connectionsMax: 10, unauthenticatedMax: 4, transferReserve: 2 };
      const parts = { hostKey: hostKey.privateKey, authorizer, receiver, projects };
      ingress = new SshIngress(parts, { ...limits, connectionsPerLoginMax: 3 });
      port = await ingress.listen(0, '127.0.0.1');
      const clients: ssh2.Client[] = [];
      const login = (username: string): Promise<void> =>
        new Promise((resolve) => {
          const client = new ssh2.Client().on('error', () => undefined).once('close', resolve);
          clients.push(client);
          client.once('ready', resolve);
          client.connect({ host: '127.0.0.1', port, username, privateKey: transferKey.privateKey });
        });
      for (const name of ['a', 'a', 'a', 'a', 'b', 'c', 'd']) await login(name);
      // Three of `a`, one of `b`: four of ten, two are the reserve and four for those who log in.
      await waitFor('the rest is gone', () => ingress.counts().connections === 4, {
        timeoutMs: 5000,
      });
      expect(served.size).toBe(4);
      expect((await sender().send(target(), item, Readable.from(['x']))).bytes).toBe(1);
      for (const client of clients) client.destroy();
    });
  });
});
