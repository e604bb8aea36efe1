import { projectSpaceRoot } from '@rookery/fleet/contract';
import { generateKeyPairSync } from 'node:crypto';
import { createUser } from '@nats-io/nkeys';
import { nkeyAuthenticator, wsconnect } from '@nats-io/nats-core';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { AccessTokenMinter, AccessTokenVerifier, newId, waitFor } from '@rookery/core';
import {
  accountPermissions,
  hostPermissions,
  hubPermissions,
  joiningHostPermissions,
  joiningIdentityName,
  NetworkAuthenticator,
  type ProjectAccess,
} from '@rookery/fleet';
import {
  Authenticator,
  Broker,
  ConatClient,
  type ConatIdentity,
  type ConatPermissions,
  type ConnectRequest,
} from '@rookery/conat';
import { startTestBroker, type TestBroker, RawClient } from '@rookery/conat/testing';
import { connectionPermissions } from '../src/auth/permissions.js';

let network: TestBroker | null = null;
afterEach(async () => {
  await network?.close();
  network = null;
});

/** Knows identities by the name they give. */
class ByName extends Authenticator {
  constructor(private readonly identities: Record<string, ConatPermissions>) {
    super();
  }
  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    const permissions = this.identities[options.name];
    return permissions ? { name: options.name, permissions } : null;
  }
}

const brokerOf = (identities: Record<string, ConatPermissions>, replyGrantsMax = 100): Broker =>
  new Broker({
    spaceRoot: projectSpaceRoot,
    authenticator: new ByName(identities),
    limits: { replyGrantsMax },
  });

const [H1, H2, A1, A2, P1, P2, P3] = Array.from({ length: 7 }, newId) as [
  string,
  string,
  string,
  string,
  string,
  string,
  string,
];
const roles: ProjectAccess[] = [
  { projectId: P1, role: 'owner' },
  { projectId: P2, role: 'viewer' },
];
const everyone: Record<string, ConatPermissions> = {
  hub: hubPermissions(),
  [`host-${H1}`]: hostPermissions(H1),
  'joining-x': joiningHostPermissions(),
  [`account-${A1}`]: accountPermissions(A1, roles),
};

describe('the tables', () => {
  const inboxOf = (name: string): string => `_INBOX.${name}.n1`;
  const subjects = [
    'hosts.register',
    `hosts.${H1}.heartbeat`,
    `hosts.${H2}.heartbeat`,
    'hosts.keys',
    `host.${H1}.projects.start`,
    `host.${H2}.projects.start`,
    `project.${P1}.status`,
    `project.${P1}.streams.exec`,
    `project.${P1}.fs.read`,
    `project.${P1}.fs.write`,
    `project.${P2}.status`,
    `project.${P2}.streams.exec`,
    `project.${P2}.fs.read`,
    `project.${P2}.fs.write`,
    `project.${P3}.status`,
    `account.${A1}.news`,
    `account.${A2}.news`,
    '$JS.API.INFO',
    '$SRV.PING',
    '$SYS.x',
    `routes.${P1}.resolve`,
    `routes.${P2}.resolve`,
    `routes.${P3}.resolve`,
    `routes.${P2}.changed`,
    `routes.${P3}.changed`,
    `$JS.FC.S.${P1}.x`,
    `$JS.FC.S.${P2}.x`,
    `$JS.FC.S.${P3}.x`,
    `$JS.ACK.S.${P1}.x`,
    `$JS.ACK.S.${P2}.x`,
    'other',
    ...Object.keys(everyone).map(inboxOf),
    inboxOf('stranger'),
  ];
  const allowed: Record<string, { publish: string[]; subscribe: string[] }> = {
    hub: { publish: subjects, subscribe: subjects },
    [`host-${H1}`]: {
      publish: [
        `hosts.${H1}.heartbeat`,
        `routes.${P1}.resolve`,
        `routes.${P2}.resolve`,
        `routes.${P3}.resolve`,
        inboxOf(`host-${H1}`),
      ],
      subscribe: [`host.${H1}.projects.start`, 'hosts.keys', '$SRV.PING', inboxOf(`host-${H1}`)],
    },
    'joining-x': {
      publish: ['hosts.register', inboxOf('joining-x')],
      subscribe: [inboxOf('joining-x')],
    },
    [`account-${A1}`]: {
      publish: [
        `project.${P1}.status`,
        `project.${P1}.streams.exec`,
        `project.${P1}.fs.read`,
        `project.${P1}.fs.write`,
        `project.${P2}.status`,
        `project.${P2}.fs.read`,
        `account.${A1}.news`,
        `routes.${P1}.resolve`,
        `routes.${P2}.resolve`,
        `$JS.FC.S.${P1}.x`,
        `$JS.FC.S.${P2}.x`,
        `$JS.ACK.S.${P1}.x`,
        inboxOf(`account-${A1}`),
      ],
      subscribe: [
        `project.${P1}.status`,
        `project.${P2}.status`,
        `routes.${P2}.changed`,
        `account.${A1}.news`,
        inboxOf(`account-${A1}`),
      ],
    },
  };

  it.each(
    Object.keys(everyone).map((name, i) => [['hub', 'host', 'joining host', 'account'][i]!, name]),
  )('let %s do what is its own and nothing else', async (_, name) => {
    const broker = brokerOf(everyone);
    const client = await RawClient.ready(broker, { name });
    for (const subject of subjects) {
      client.say(`PUB ${subject} 0\r\n\r\n`);
      const mayPublish = allowed[name]!.publish.includes(subject);
      expect([subject, await client.answers()]).toEqual([
        subject,
        mayPublish ? '' : `-ERR 'Permissions Violation for Publish to "${subject}"'\r\n`,
      ]);
      client.say(`SUB ${subject} 1\r\nUNSUB 1\r\n`);
      const maySubscribe = allowed[name]!.subscribe.includes(subject);
      expect([subject, await client.answers()]).toEqual([
        subject,
        maySubscribe ? '' : `-ERR 'Permissions Violation for Subscription to "${subject}"'\r\n`,
      ]);
    }
    const { publish, subscribe } = allowed[name]!;
    const refused = 2 * subjects.length - publish.length - subscribe.length;
    expect(broker.metrics.violations).toBe(refused);
  });
});

describe('an account', () => {
  it('reads only what it views', () => {
    const { readOnly, responses, subscribe } = accountPermissions(A1, roles);
    expect(readOnly).toEqual([P2]);
    expect(responses?.except).toEqual([`project.${P2}.>`]);
    expect(subscribe.noQueue).toEqual([`project.${P2}.>`]);
  });

  it('with a token for one project has that one, and nothing where it is not its own', () => {
    const whole = accountPermissions(A1, roles);
    const one = accountPermissions(A1, roles.slice(0, 1));
    expect(connectionPermissions(A1, roles, undefined)).toEqual(whole);
    expect(connectionPermissions(A1, roles, P1)).toEqual(one);
    expect(connectionPermissions(A1, roles, P3)).toBeNull();
    expect(connectionPermissions(A1, [], P1)).toBeNull();
  });
});

describe('subscriptions', () => {
  const rules: ConatPermissions = {
    publish: { allow: ['>'] },
    subscribe: { allow: ['a.>', 'b.*', 'c.x'], deny: ['a.secret.>', 'a.*.key'] },
  };

  it.each([
    ['a.>', true],
    ['a.b.*', true],
    ['a', false],
    ['>', false],
    ['*', false],
    ['*.b', false],
    ['b.*', true],
    ['b.>', false],
    ['b.x.y', false],
    ['c.*', false],
    ['c.x', true],
    ['a.secret.one', false],
    ['a.secret.>', false],
    ['a.secret.*', false],
    ['a.b.key', false],
    ['a.*.key', false],
    ['_INBOX.>', false],
    ['_INBOX.*.x', false],
    ['_INBOX.me.>', true],
    ['_INBOX.me', false],
    ['_INBOX.me2.x', false],
  ])('to %s: %p', async (subject, may) => {
    const client = await RawClient.ready(brokerOf({ me: rules }), { name: 'me' });
    client.say(`SUB ${subject} q 1\r\n`);
    const refusal = `-ERR 'Permissions Violation for Subscription to "${subject}" using queue "q"'\r\n`;
    expect(await client.answers()).toBe(may ? '' : refusal);
  });

  it('that reach into the denied part do not hear it', async () => {
    const broker = brokerOf({ me: rules, hub: hubPermissions() });
    const client = await RawClient.ready(broker, { name: 'me' });
    client.say('SUB a.> 1\r\n');
    await client.answers();
    const hub = await RawClient.ready(broker, { name: 'hub' });
    hub.say('PUB a.secret.one 0\r\n\r\nPUB a.b.key 0\r\n\r\nPUB a.b 0\r\n\r\n');
    expect(await client.heard('MSG')).toBe('MSG a.b 1 0\r\n\r\n');
  });

  it('to > do not hear other people’s inboxes, and a queue passes over who may not hear', async () => {
    const all: ConatPermissions = { publish: { allow: ['>'] }, subscribe: { allow: ['>'] } };
    const broker = brokerOf({ me: all, hub: hubPermissions() });
    const client = await RawClient.ready(broker, { name: 'me' });
    const hub = await RawClient.ready(broker, { name: 'hub' });
    client.say('SUB > 1\r\nSUB > q 2\r\n');
    await client.answers();
    hub.say('SUB _INBOX.you.> q 5\r\n' + 'PUB _INBOX.you.1 0\r\n\r\n'.repeat(20));
    expect((await hub.answers()).match(/MSG/g)).toHaveLength(20);
    hub.say('PUB _INBOX.me.1 0\r\n\r\n');
    await hub.answers();
    expect(await client.answers()).toBe('MSG _INBOX.me.1 1 0\r\n\r\nMSG _INBOX.me.1 2 0\r\n\r\n');
  });
});

describe('replies', () => {
  const grantMs = 80;
  const responder: ConatPermissions = {
    publish: { allow: [] },
    subscribe: { allow: ['ask'] },
    responses: { countMax: 2, ttlMs: grantMs },
  };
  const asker: ConatPermissions = { publish: { allow: ['ask', 'open'] }, subscribe: { allow: [] } };

  it('are allowed to what was just asked, so often and so long', async () => {
    const broker = brokerOf({ responder, asker });
    let nowMs = broker.nowMs();
    jest.spyOn(broker, 'nowMs').mockImplementation(() => nowMs);
    const server = await RawClient.ready(broker, { name: 'responder' });
    const client = await RawClient.ready(broker, { name: 'asker' });
    server.say('SUB ask 1\r\n');
    client.say('SUB _INBOX.asker.* 1\r\n');
    await server.answers();
    const reply = 'PUB _INBOX.asker.r1 2\r\nok\r\n';
    server.say(reply);
    expect(await server.answers()).toContain('Permissions Violation for Publish');
    client.say('PUB ask _INBOX.asker.r1 0\r\n\r\n');
    await client.answers();
    server.say(reply.repeat(3));
    expect((await server.answers()).match(/Violation/g)).toHaveLength(1);
    expect((await client.answers()).match(/MSG/g)).toHaveLength(2);
    client.say('PUB ask _INBOX.asker.r1 0\r\n\r\n');
    await client.answers();
    nowMs += grantMs + 1;
    server.say(reply);
    expect(await server.answers()).toContain('Permissions Violation for Publish');
  });

  it('cannot be asked for in somebody else’s inbox, or where one may not publish', async () => {
    const client = await RawClient.ready(brokerOf({ asker }), { name: 'asker' });
    for (const reply of ['_INBOX.hub.x', '_INBOX.asker2.x', 'project.x.write', '$JS.ACK.x']) {
      client.say(`PUB ask ${reply} 0\r\n\r\n`);
      expect(await client.answers()).toBe(
        `-ERR 'Permissions Violation for Publish with Reply of "${reply}"'\r\n`,
      );
    }
    client.say('PUB ask open 0\r\n\r\nPUB ask _INBOX.asker.x.y 0\r\n\r\n');
    expect(await client.answers()).not.toContain('Violation');
  });

  it('are remembered for a bounded number of requests', async () => {
    const lasting = { ...responder, responses: { countMax: 1, ttlMs: 60_000 } };
    const broker = brokerOf({ lasting, asker }, 10);
    const server = await RawClient.ready(broker, { name: 'lasting' });
    const client = await RawClient.ready(broker, { name: 'asker' });
    server.say('SUB ask 1\r\n');
    await server.answers();
    for (let i = 0; i < 11; i += 1) client.say(`PUB ask _INBOX.asker.r${i} 0\r\n\r\n`);
    await client.answers();
    await server.answers();
    server.say('PUB _INBOX.asker.r0 0\r\n\r\n');
    expect(await server.answers()).toContain('Violation');
    server.say('PUB _INBOX.asker.r10 0\r\n\r\n');
    expect(await server.answers()).toBe('');
  });
});

describe('changes', () => {
  it('take subscriptions away at once, and say which', async () => {
    const identities = { [`account-${A1}`]: accountPermissions(A1, roles) };
    const broker = brokerOf(identities);
    const client = await RawClient.ready(broker, { name: `account-${A1}` });
    client.say(`SUB project.${P1}.> 7\r\nSUB project.${P2}.status 8\r\n`);
    await client.answers();
    expect(broker.updatePermissions(`account-${A1}`, accountPermissions(A1, [roles[1]!]))).toBe(1);
    expect(await client.answers()).toBe(
      `-ERR 'Permissions Violation for Subscription to "project.${P1}.>" (sid "7")'\r\n`,
    );
    expect(broker.subscriptionCount).toBe(1);
    client.say(`PUB project.${P1}.status 0\r\n\r\n`);
    expect(await client.answers()).toContain('Permissions Violation for Publish');
    expect(broker.updatePermissions('nobody', accountPermissions(A2, []))).toBe(0);
  });

  it('of what is denied filter the subscriptions that there are', async () => {
    const all: ConatPermissions = { publish: { allow: ['>'] }, subscribe: { allow: ['a.>'] } };
    const broker = brokerOf({ a: all });
    const client = await RawClient.ready(broker, { name: 'a' });
    client.say('SUB a.> 1\r\n');
    await client.answers();
    const less = { ...all, subscribe: { allow: ['a.>'], deny: ['a.x'] } };
    expect(broker.updatePermissions('a', less)).toBe(1);
    client.say('PUB a.x 0\r\n\r\nPUB a.y 0\r\n\r\n');
    expect(await client.answers()).toBe('MSG a.y 1 0\r\n\r\n');
  });

  it('cut a revoked identity, everywhere it is connected, and tell it why', async () => {
    const broker = brokerOf(everyone);
    const clients = [
      await RawClient.ready(broker, { name: 'hub' }),
      await RawClient.ready(broker, { name: `host-${H1}` }),
      await RawClient.ready(broker, { name: `host-${H1}` }),
    ];
    expect(broker.disconnect(`host-${H1}`)).toBe(2);
    for (const client of clients.slice(1)) {
      expect((await client.gone()).reason).toBe('User Authentication Revoked');
      expect(client.text).toBe("-ERR 'User Authentication Revoked'\r\n");
    }
    expect(clients[0]!.closed).toBeNull();
    expect(broker.identityNames()).toEqual(['hub']);
  });

  it('are not missed by who is being authenticated meanwhile', async () => {
    let asked = 0;
    let open!: () => void;
    const opened = new Promise<void>((resolve) => (open = resolve));
    const broker = new Broker({
      spaceRoot: projectSpaceRoot,
      authenticator: new (class extends Authenticator {
        async authenticate(): Promise<ConatIdentity | null> {
          asked += 1;
          if (asked > 1) return null; // revoked by now
          await opened;
          return { name: 'me', permissions: hubPermissions() };
        }
      })(),
    });
    const client = new RawClient(broker);
    client.say('CONNECT {}\r\n');
    broker.disconnect('me');
    open();
    await client.gone();
    expect(client.text).toContain('Authorization Violation');
  });

  it('of the clock end an identity that expires', async () => {
    const broker = new Broker({
      spaceRoot: projectSpaceRoot,
      authenticator: new (class extends Authenticator {
        async authenticate(): Promise<ConatIdentity> {
          return { name: 'me', permissions: hubPermissions(), expiresAt: Date.now() + 60 };
        }
      })(),
    });
    const client = await RawClient.ready(broker);
    expect((await client.gone()).reason).toBe('User Authentication Expired');
  });

  it('of the clock end it not before, though no timer runs for so long', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    try {
      const days = 86_400_000;
      const broker = new Broker({
        spaceRoot: projectSpaceRoot,
        limits: { pingEveryMs: 10 * days, pingsOutMax: 100 },
        authenticator: new (class extends Authenticator {
          async authenticate(): Promise<ConatIdentity> {
            return { name: 'me', permissions: hubPermissions(), expiresAt: Date.now() + 60 * days };
          }
        })(),
      });
      const client = new RawClient(broker);
      client.say('CONNECT {"verbose":false}\r\nPING\r\n');
      await new Promise((resolve) => setImmediate(resolve));
      expect(client.text).toContain('PONG\r\n');
      jest.advanceTimersByTime(60 * days - 1);
      expect(client.closed).toBeNull();
      jest.advanceTimersByTime(1);
      expect(client.closed?.reason).toBe('User Authentication Expired');
    } finally {
      jest.useRealTimers();
    }
  });
});

describe('NetworkAuthenticator', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const minter = new AccessTokenMinter(privateKey, 'k1');
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'k1' } as never;
  const key = createUser();
  const seed = new TextDecoder().decode(key.getSeed());

  async function start(): Promise<TestBroker> {
    return (network = await startTestBroker({
      authenticator: new NetworkAuthenticator({
        hubSecret: 'hub secret',
        hostOf: async (nkey) => (nkey === key.getPublicKey() ? H1 : null),
        isJoinToken: async (token) => token === 'join_me',
        accessTokens: new AccessTokenVerifier([jwk]),
        projectsOf: async (id) => (id === A1 ? roles : null),
      }),
    }));
  }

  it('knows hosts, hubs, joining hosts and accounts by their proofs', async () => {
    const { broker, connect } = await start();
    await connect({ identity: `host-${H1}`, credentials: { nkeySeed: seed } });
    await connect({ identity: 'hub', credentials: { user: 'hub', password: 'hub secret' } });
    const joining = joiningIdentityName('join_me');
    await connect({ identity: joining, credentials: { token: 'join_me' } });
    const token = await minter.mint({ aud: 'conat', sub: `account:${A1}` });
    await connect({ identity: `account-${A1}`, credentials: async () => ({ token }) });
    expect(broker.identityNames()).toEqual([`host-${H1}`, 'hub', joining, `account-${A1}`]);
  });

  it('lets nobody else in', async () => {
    const { broker, connect, url } = await start();
    const grant = { sub: `account:${A1}` };
    const refused = [
      undefined,
      { token: 'join_you' },
      { token: '' },
      { user: 'hub', password: 'wrong' },
      { user: 'hub', password: '' },
      { nkeySeed: new TextDecoder().decode(createUser().getSeed()) },
      { token: await minter.mint({ aud: `host:${H1}`, ...grant }) },
      { token: await minter.mint({ aud: 'conat', sub: `account:${A2}` }) },
      { token: await minter.mint({ aud: 'conat', sub: 'anonymous' }) },
      { token: await minter.mint({ aud: 'conat', ttlSeconds: -60, ...grant }) },
      {
        token: await new AccessTokenMinter(generateKeyPairSync('ed25519').privateKey, 'k1').mint({
          aud: 'conat',
          ...grant,
        }),
      },
    ];
    for (const credentials of refused) {
      await expect(connect({ credentials })).rejects.toMatchObject({ code: 'CONAT_UNAUTHORIZED' });
    }
    // Another connection's signature: the nonce differs.
    const stolen = nkeyAuthenticator(new TextEncoder().encode(seed))('old nonce');
    await expect(
      wsconnect({ servers: url, authenticator: () => stolen, reconnect: false }),
    ).rejects.toThrow(/authorization violation/i);
    expect(broker.identityNames()).toEqual([]);
  });

  it('opens with a project’s token that project alone', async () => {
    const { connect } = await start();
    const token = await minter.mint({ aud: 'conat', sub: `account:${A1}`, project: P2 });
    const client = await connect({ identity: `account-${A1}`, credentials: { token } });
    const violations: string[] = [];
    void (async () => {
      for await (const status of client.nats.status()) {
        if (status.type === 'error') violations.push(status.error.message);
      }
    })();
    client.nats.publish(`project.${P2}.status`);
    client.nats.publish(`project.${P1}.status`);
    await client.nats.flush();
    await waitFor('the refusal', () => violations.length > 0, { timeoutMs: 2_000 });
    expect(violations).toEqual([`Permissions Violation for Publish to "project.${P1}.status"`]);
  });

  it('asks for fresh credentials at each connect', async () => {
    const { broker, connect } = await start();
    let asked = 0;
    const client: ConatClient = await connect({
      identity: `account-${A1}`,
      credentials: async () => {
        asked += 1;
        return { token: await minter.mint({ aud: 'conat', sub: `account:${A1}` }) };
      },
    });
    expect(asked).toBe(1);
    const statuses: string[] = [];
    client.onStatus((status) => statuses.push(status));
    broker.disconnect(`account-${A1}`);
    await waitFor('it is back', () => statuses.includes('connected'), { timeoutMs: 5_000 });
    expect(statuses).toEqual(['disconnected', 'connected']);
    expect(asked).toBe(2);
  });
});
