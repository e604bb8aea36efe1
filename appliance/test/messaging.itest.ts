import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { newId, waitFor } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { hostProjects } from '@rookery/fleet/contract';
import { FakeHub } from './fake-hub.js';
import { HostProcess } from './host-process.js';

const spec = ProjectSpec.parse({
  image: 'localhost/rookery/debian:13',
  quota: { diskBytes: 512 * 1024 * 1024, memoryBytes: 256 * 1024 * 1024, cpus: 1, pidsMax: 256 },
});

/**
 * A program of a project: speaks NATS over a WebSocket by hand, answers what it is asked, comes back
 * when the broker goes, always with the token that it read at its start.
 */
const program = `
import base64, json, os, socket, struct, time, urllib.parse
url = urllib.parse.urlparse(os.environ['ROOKERY_CONAT_URL'])
token = open(os.environ['ROOKERY_CONAT_TOKEN_FILE']).read()
def serve():
    s = socket.create_connection((url.hostname, url.port))
    key = base64.b64encode(os.urandom(16)).decode()
    s.sendall(f'GET {url.path} HTTP/1.1\\r\\nHost: {url.netloc}\\r\\nUpgrade: websocket\\r\\n'
              f'Connection: Upgrade\\r\\nSec-WebSocket-Key: {key}\\r\\n'
              f'Sec-WebSocket-Version: 13\\r\\n\\r\\n'.encode())
    f = s.makefile('rb')
    while f.readline() not in (b'\\r\\n', b''): pass
    def say(text):
        data = text.encode()
        s.sendall(struct.pack('>BBH', 0x82, 0xfe, len(data)) + b'\\0\\0\\0\\0' + data)
    options = {'verbose': False, 'auth_token': token, 'headers': True}
    say('CONNECT ' + json.dumps(options) + '\\r\\nSUB ask 1\\r\\nPING\\r\\n')
    while True:
        head = f.read(2)
        if len(head) < 2 or head[0] & 15 == 8: return
        size = head[1] & 127
        if size == 126: size, = struct.unpack('>H', f.read(2))
        for line in f.read(size).decode().split('\\r\\n'):
            if line == 'PING': say('PONG\\r\\n')
            if line == 'PONG': open('/tmp/ready', 'w').close()
            if line.startswith('MSG ask'):
                text = 'heard by ' + os.environ['ROOKERY_PROJECT_ID']
                say(f'PUB {line.split(" ")[3]} {len(text)}\\r\\n{text}\\r\\n')
while True:
    try: serve()
    except OSError: pass
    time.sleep(0.1)
`;

describe('messaging on a host', () => {
  const hub = new FakeHub();
  let host: HostProcess;
  const [id, secret, account, viewer] = [newId(), newId(), newId(), newId()] as [
    string,
    string,
    string,
    string,
  ];
  const clients: NatsConnection[] = [];

  beforeAll(async () => {
    await hub.start();
    hub.access.set(account, [{ projectId: id, role: 'owner' }]);
    hub.access.set(viewer, [{ projectId: id, role: 'viewer' }]);
    host = await HostProcess.create(hub, '10.231.5.0/24', 'apm1');
    host.start();
    await host.untilReady();
    hub.owned.set(id, 1);
    await projects().create({ fence: hub.fence(id), spec });
    await projects().start({ fence: hub.fence(id), spec });
  });
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.close()));
    await host?.destroy();
    await hub.stop();
  });

  const projects = () => hub.service(hostProjects);
  const exec = async (command: string[]): Promise<{ exit: number; stdout: string }> => {
    const call = await projects().exec({ projectId: id, command });
    call.stdin.end();
    let stdout = '';
    call.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    const { exit } = await call.result;
    return { exit, stdout };
  };
  const enter = async (accountId: string, token: string) => {
    const client = await wsconnect({
      servers: `ws://127.0.0.1:${host.ports.agent}/conat`,
      inboxPrefix: `_INBOX.account-${accountId}`,
      token,
      reconnect: false,
    });
    clients.push(client);
    const errors: string[] = [];
    void (async () => {
      for await (const status of client.status()) {
        const { type } = status;
        if (type === 'error') errors.push((status as { error: Error }).error.message);
      }
    })();
    const closed = client.closed();
    return { client, errors, closed };
  };

  it('lets a container’s program in with the token that lies there, rooted in its project', async () => {
    const { exit } = await exec(['sh', '-c', `cat > ~/program.py <<'E'\n${program}\nE\n`]);
    expect(exit).toBe(0);
    await exec(['sh', '-c', 'setsid python3 ~/program.py >/tmp/log 2>&1 &']);
    await waitFor(
      'the program listens',
      async () => (await exec(['test', '-e', '/tmp/ready'])).exit === 0,
      { timeoutMs: 20_000, everyMs: 200 },
    ).catch(async (error: unknown) => {
      throw new Error((await exec(['cat', '/tmp/log'])).stdout, { cause: error });
    });
    const { client } = await enter(account, await hub.conatToken(account));
    const reply = await client.request(`project.${id}.ask`, '', { timeout: 5_000 });
    expect(reply.string()).toBe(`heard by ${id}`);
    expect(
      (await exec(['sh', '-c', 'touch /run/rookery/x 2>/dev/null; ls /run/rookery'])).stdout,
    ).toBe('conat-token\n');
  });

  it('lets containers dial nothing else of the host there', async () => {
    const dial = `import os, urllib.request, urllib.error
url = os.environ['ROOKERY_CONAT_URL'].replace('ws', 'http', 1)
try: urllib.request.urlopen(url.replace('/conat', '/readyz'), timeout=5)
except urllib.error.HTTPError as e: print(e.code)`;
    expect((await exec(['python3', '-c', dial])).stdout).toBe('404\n');
  });

  it('lets nobody else in', async () => {
    const forged = await new FakeHub().conatToken(account);
    const stranger = await hub.conatToken(newId());
    const elsewhere = await hub.conatToken(account, { project: secret });
    for (const token of ['', 'x', forged, stranger, elsewhere, await hub.token(id)]) {
      await expect(enter(account, token)).rejects.toThrow(/authorization violation/i);
    }
  });

  it('takes from a removed collaborator what it hears, and says so', async () => {
    const { client, errors } = await enter(viewer, await hub.conatToken(viewer));
    client.subscribe(`project.${id}.news`);
    await client.flush();
    const closed = client.closed();
    hub.access.set(viewer, []);
    await hub.tellAccess();
    const why = await closed;
    expect([String(why), ...errors].join()).toMatch(/revoked/i);
    await expect(enter(viewer, await hub.conatToken(viewer))).rejects.toThrow(/authorization/i);
  });

  it('hears of it with the heartbeat when nobody tells', async () => {
    hub.access.set(viewer, [{ projectId: id, role: 'viewer' }]);
    const { client } = await waitFor(
      'the viewer is let in',
      async () => enter(viewer, await hub.conatToken(viewer)).catch(() => undefined),
      { timeoutMs: 20_000, everyMs: 100 },
    );
    const closed = client.closed();
    hub.access.set(viewer, []);
    await closed;
  });

  it('cuts what a revoked key opened, and takes nothing more that was made with it', async () => {
    const [key, other] = [newId(), newId()] as [string, string];
    const first = await enter(account, await hub.conatToken(account, { credential: key }));
    const token = await hub.conatToken(account, { credential: key });
    hub.access.revoke(account, key);
    await hub.tellAccess();
    await first.closed;
    await expect(enter(account, token)).rejects.toThrow(/authorization violation/i);
    await enter(account, await hub.conatToken(account, { credential: other }));
  });

  it('goes on while the hub is away, also with another agent', async () => {
    const token = await hub.conatToken(account);
    await hub.stop();
    const { agent } = await host.pids();
    process.kill(agent, 'SIGKILL');
    await waitFor('another agent', async () => (await host.pids()).agent !== agent, {
      timeoutMs: 30_000,
    });
    await host.untilReady('away');
    const { client } = await enter(account, token);
    // The program, too, is let in again with the token that it has had all the time.
    const reply = await waitFor(
      'the program answers',
      () => client.request(`project.${id}.ask`, '', { timeout: 5_000 }).catch(() => undefined),
      { timeoutMs: 20_000, everyMs: 100 },
    );
    expect(reply.string()).toBe(`heard by ${id}`);
    await hub.start();
    await host.untilReady();
  });

  it('ends with the container', async () => {
    const { stdout: token } = await exec(['cat', '/run/rookery/conat-token']);
    await projects().stop({ fence: hub.fence(id) });
    await expect(enter(account, token)).rejects.toThrow(/authorization violation/i);
  });
});
