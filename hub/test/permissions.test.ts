import { projectSpaceRoot } from '@rookery/fleet/contract';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  accountPermissions,
  hostPermissions,
  hubPermissions,
  joiningHostPermissions,
  projectIdentity,
} from '@rookery/fleet';
import {
  Authenticator,
  Broker,
  type ConatIdentity,
  type ConnectRequest,
  type InternalClient,
} from '@rookery/conat';
import { newId } from '@rookery/core';
import type { ServiceContract } from '@rookery/rpc/contract';

const [H1, H2, P1, P2, A0] = Array.from({ length: 5 }, newId) as [
  string,
  string,
  string,
  string,
  string,
];
const accounts = { owner: newId(), editor: newId(), viewer: newId(), outsider: newId() } as const;

/** Everybody who can be somebody; `anonymous` shows nothing. */
const identities: Record<string, ConatIdentity | null> = {
  hub: { name: 'hub', permissions: hubPermissions() },
  host: { name: `host-${H1}`, permissions: hostPermissions(H1) },
  joining: { name: 'joining-x', permissions: joiningHostPermissions() },
  ...Object.fromEntries(
    (['owner', 'editor', 'viewer'] as const).map((role) => [
      role,
      {
        name: `account-${accounts[role]}`,
        permissions: accountPermissions(accounts[role], [{ projectId: P1, role }]),
      },
    ]),
  ),
  outsider: {
    name: `account-${accounts.outsider}`,
    permissions: accountPermissions(accounts.outsider, []),
  },
  project: projectIdentity(P1),
  anonymous: null,
};
type Who = string;

interface Rule {
  /** Who may ask (publish, request) with its own id in the subject. The hub may everything. */
  readonly ask: readonly Who[];
  /** Who may listen there. */
  readonly serve: readonly Who[];
  /** Who may also ask with others' ids: the service looks itself whose they are. */
  readonly askOthers?: readonly Who[];
  /** Exceptions of single methods. */
  readonly methods?: Readonly<Record<string, { readonly ask: readonly Who[] }>>;
}

const members = ['owner', 'editor', 'project'];
const readers = [...members, 'viewer'];

/**
 * For each contract who may use it. Contracts are found in the packages: one that is missing here
 * fails the test below.
 */
const rules: Record<string, Rule> = {
  hosts: { ask: ['joining'], serve: [] },
  'hosts.{hostId}': { ask: ['host'], serve: [] },
  'host.{hostId}.access': { ask: [], serve: ['host'] },
  'host.{hostId}.copies': { ask: [], serve: ['host'] },
  'host.{hostId}.projects': { ask: [], serve: ['host'] },
  'host.{hostId}.snapshots': { ask: [], serve: ['host'] },
  'host.{hostId}.backup': { ask: [], serve: ['host'] },
  'host.{hostId}.move.source': { ask: [], serve: ['host'] },
  'host.{hostId}.move.destination': { ask: [], serve: ['host'] },
  // A host may ask about any project; whether it is its own, the hub looks up.
  'routes.{projectId}': {
    ask: ['owner', 'editor', 'viewer', 'host'],
    serve: [],
    askOthers: ['host'],
  },
  'project.{projectId}.streams': {
    ask: members,
    serve: [],
    methods: { logs: { ask: readers } },
  },
};

/** The same for subjects of no contract: `[subject, who may say it, who may hear it]`. */
const others: readonly (readonly [string, readonly Who[], readonly Who[]])[] = [
  ['hosts.keys', [], ['host']],
  [`routes.${P1}.changed`, [], ['owner', 'editor', 'viewer']],
  [`routes.${P2}.changed`, [], []],
  [`account.${accounts.owner}.news`, ['owner'], ['owner']],
  [`account.${A0}.news`, [], []],
  [`project.${P1}.news`, members, readers],
  [`project.${P1}.status`, readers, readers],
  [`project.${P2}.news`, [], []],
  ...['fs.stat', 'fs.list', 'fs.read', 'fs.watch', 'fs.find', 'fs.grep'].map(
    (name) => [`project.${P1}.${name}`, readers, []] as const,
  ),
  ...['fs.write', 'fs.remove', 'fs.rename', 'fs.mkdir', 'terminal.open'].map(
    (name) => [`project.${P1}.${name}`, members, []] as const,
  ),
  ...[
    'INFO',
    'STREAM.NAMES',
    'STREAM.LIST',
    'STREAM.INFO.S',
    'STREAM.MSG.GET.S',
    'DIRECT.GET.S',
    'DIRECT.GET.S.$KV.b.k',
    'CONSUMER.NAMES.S',
    'CONSUMER.LIST.S',
    'CONSUMER.INFO.S.C',
    'CONSUMER.CREATE.S',
    'CONSUMER.CREATE.S.C.$KV.b.>',
    'CONSUMER.MSG.NEXT.S.C',
  ].map((name) => [`project.${P1}.js.api.${name}`, readers, ['project']] as const),
  ...[
    'STREAM.CREATE.S',
    'STREAM.UPDATE.S',
    'STREAM.DELETE.S',
    'STREAM.PURGE.S',
    'STREAM.MSG.DELETE.S',
    'STREAM.SNAPSHOT.S',
    'STREAM.RESTORE.S',
    'CONSUMER.DELETE.S.C',
    'CONSUMER.PAUSE.S.C',
    'CONSUMER.DURABLE.CREATE.S.C',
    'CONSUMER.RESET.S.C',
    'CONSUMER.UNPIN.S.C',
    'ACCOUNT.PURGE.x',
    'SERVER.REMOVE',
  ].map((name) => [`project.${P1}.js.api.${name}`, members, ['project']] as const),
  [`project.${P1}.$KV.b.k`, members, readers],
  [`$JS.ACK._.${P1}.S.C.1.2.3.4.5`, members, ['project']],
  [`$JS.FC._.${P1}.S.C.x`, readers, ['project']],
  [`project.${P2}.js.api.INFO`, [], []],
  [`project.${P2}.$KV.b.k`, [], []],
  [`$JS.ACK._.${P2}.S.C.1.2.3.4.5`, [], []],
  [`$JS.FC._.${P2}.S.C.x`, [], []],
  ['$JS.API.INFO', [], []],
  ['$SYS.REQ.SERVER.PING', [], []],
  ['anything', [], []],
  ...Object.entries(identities).flatMap(([who, identity]) =>
    identity ? [[`_INBOX.${identity.name}.x`, [who], [who]] as const] : [],
  ),
  ['_INBOX.stranger.x', [], []],
];

interface Row {
  readonly subject: string;
  readonly ask: readonly Who[];
  readonly hear: readonly Who[];
}

async function contracts(): Promise<ServiceContract[]> {
  const modules = join(import.meta.dirname, '../../modules');
  const found: ServiceContract[] = [];
  for (const folder of await readdir(modules)) {
    const text = await readFile(join(modules, folder, 'package.json'), 'utf8').catch(() => '{}');
    const { name, exports } = JSON.parse(text) as { name?: string; exports?: object };
    if (name === undefined || !exports || !('./contract' in exports)) continue;
    const door = (await import(`${name}/contract`)) as Record<string, unknown>;
    for (const each of Object.values(door)) if (isContract(each)) found.push(each);
  }
  return found;
}

const isContract = (value: unknown): value is ServiceContract =>
  typeof value === 'object' && value !== null && 'prefix' in value && 'methods' in value;

/** Each method with the connection's own ids, and with others'. */
function rowsOf({ prefix, methods }: ServiceContract): Row[] {
  const rule = rules[prefix];
  if (!rule) return [];
  const fill = (host: string, project: string): string =>
    prefix.replace('{hostId}', host).replace('{projectId}', project);
  return Object.keys(methods).flatMap((method) => {
    const own = `${fill(H1, P1)}.${method}`;
    const foreign = `${fill(H2, P2)}.${method}`;
    const rows: Row[] = [
      { subject: own, ask: rule.methods?.[method]?.ask ?? rule.ask, hear: rule.serve },
    ];
    if (foreign !== own) rows.push({ subject: foreign, ask: rule.askOthers ?? [], hear: [] });
    return rows;
  });
}

class ByToken extends Authenticator {
  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    return identities[options.auth_token ?? 'anonymous'] ?? null;
  }
}

/** A client in one sentence at a time. */
class Client {
  private output = '';
  private onOutput: () => void = () => undefined;
  private readonly connection;

  constructor(broker: Broker, token: string) {
    this.connection = broker.accept({
      kind: 'memory',
      peer: 'test',
      bufferedBytes: 0,
      close: () => undefined,
      pause: () => undefined,
      resume: () => undefined,
      send: (frame) => {
        this.output += frame.toString('latin1');
        this.onOutput();
      },
    });
    this.tell(`CONNECT {"verbose":false,"headers":true,"auth_token":"${token}"}\r\n`);
  }

  tell(text: string): void {
    this.connection.receive(Buffer.from(text));
  }

  /** @returns what was heard until all of it was obeyed */
  async say(text: string): Promise<string> {
    this.output = '';
    const answered = new Promise<void>((resolve) => {
      this.onOutput = () => {
        if (/PONG\r\n|Authorization Violation/.test(this.output)) resolve();
      };
    });
    this.tell(`${text}PING\r\n`);
    await answered;
    return this.output;
  }

  heard(): Promise<string> {
    return this.say('');
  }
}

/** How a project's own program names a subject of the broker; null when it has no name for it. */
function inside(subject: string): string {
  return subject
    .replace(`project.${P1}.js.api.`, '$JS.API.')
    .replace(`project.${P1}.`, '')
    .replace(new RegExp(`^\\$JS\\.(ACK|FC)\\._\\.${P1}\\.`), '$JS.$1.')
    .replace(`_INBOX.project-${P1}.`, '_INBOX.');
}

describe('who may say and hear what', () => {
  let all: ServiceContract[];
  let rows: Row[];
  let broker: Broker;
  let service: InternalClient;
  let seen: { subject: string; reply: string }[];

  beforeAll(async () => {
    all = await contracts();
    rows = [
      ...all.flatMap(rowsOf),
      ...others.map(([subject, ask, hear]) => ({ subject, ask, hear })),
    ];
    broker = new Broker({ spaceRoot: projectSpaceRoot, authenticator: new ByToken() });
    service = broker.internal('watcher');
    seen = [];
    service.subscribe('>', '', ({ subject, reply }) => {
      seen.push({ subject, reply });
      return false;
    });
  });

  it('is written down for every contract', () => {
    expect(all.length).toBeGreaterThan(5);
    expect(all.map(({ prefix }) => prefix).sort()).toEqual(Object.keys(rules).sort());
  });

  it.each(Object.keys(identities).filter((who) => who !== 'anonymous'))(
    'holds for %s',
    async (who) => {
      const client = new Client(broker, who);
      await client.heard();
      const { name, rootedIn } = identities[who]!;
      const inbox = `_INBOX.${name}.reply`;
      const table: Record<string, unknown> = {};
      const expected: Record<string, unknown> = {};
      for (const { subject, ask, hear } of rows) {
        const said = rootedIn === undefined ? subject : inside(subject);
        const reached = async (text: string, reply: string): Promise<boolean> => {
          seen.length = 0;
          await client.say(text);
          return seen.some((each) => each.subject === subject && each.reply === reply);
        };
        const reply = rootedIn === undefined ? inbox : inside(inbox);
        const publish = await reached(`PUB ${said} 0\r\n\r\n`, '');
        const request = await reached(`PUB ${said} ${reply} 0\r\n\r\n`, inbox);
        const stolen = '_INBOX.stranger.x';
        const astray = await reached(`PUB ${said} ${stolen} 0\r\n\r\n`, stolen);
        await client.say(`SUB ${said} 1\r\n`);
        service.publish({ to: subject, payload: Buffer.from('!') });
        const subscribe = (await client.heard()).includes('!');
        await client.say('UNSUB 1\r\n');
        table[subject] = { publish, request, subscribe, astray };
        const may = who === 'hub' || ask.includes(who);
        const mayHear = who === 'hub' || hear.includes(who);
        expected[subject] = {
          publish: may,
          request: may,
          subscribe: mayHear,
          astray: who === 'hub',
        };
      }
      expect(table).toEqual(expected);
    },
  );

  it('is nothing for who shows nothing', async () => {
    const client = new Client(broker, 'anonymous');
    expect(await client.heard()).toContain("-ERR 'Authorization Violation'");
    seen.length = 0;
    client.tell('PUB anything 0\r\n\r\n');
    expect(seen).toEqual([]);
  });

  it('keeps viewers out of queues and from answering what they hear', async () => {
    const viewer = new Client(broker, 'viewer');
    const subject = `project.${P1}.work`;
    expect(await viewer.say(`SUB ${subject} q 1\r\n`)).toContain('Permissions Violation');
    await viewer.say(`SUB ${subject} 2\r\n`);
    service.publish({ to: subject, reply: '_INBOX.hub.x', payload: Buffer.from('!') });
    expect(await viewer.heard()).toContain('_INBOX.hub.x');
    expect(await viewer.say('PUB _INBOX.hub.x 0\r\n\r\n')).toContain('Permissions Violation');
    const editor = new Client(broker, 'editor');
    await editor.say(`SUB ${subject} q 1\r\n`);
    service.publish({ to: subject, reply: '_INBOX.hub.x', payload: Buffer.from('!') });
    expect(await editor.heard()).toContain('_INBOX.hub.x');
    expect(await editor.say('PUB _INBOX.hub.x 0\r\n\r\n')).not.toContain('Violation');
  });
});
