import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spaceAccount, rootAccount } from '@rookery/jetstream';
import { NatsServerOracle, TokenAuthenticator } from '@rookery/conat/testing';
import {
  startTestJetStream,
  type TestJetStream,
  type TestJetStreamOptions,
} from '@rookery/jetstream/testing';

const space = { root: 'space', id: 'b1e8f3a0-0000-4000-8000-000000000001' };
/** How somebody from outside finds that space. */
const unrooted = {
  inboxPrefix: '_INBOX.user',
  apiPrefix: `space.${space.id}.js.api`,
  subjectPrefix: `space.${space.id}.`,
} as const;
const within = {
  allow: [`space.${space.id}.>`, `$JS.ACK.*.${space.id}.>`, `$JS.FC.*.${space.id}.>`],
};
const responses = { countMax: 1_000_000, ttlMs: 120_000 };

/** What a program is told: passed as JSON, the same for each language. */
interface ProgramTarget {
  /** Over WebSocket. */
  readonly url: string;
  /** Over TCP, for clients that know nothing else. */
  readonly tcpUrl: string;
  readonly credentials?: Readonly<{ user?: string; pass?: string; token?: string }>;
  readonly inboxPrefix?: string;
  /** JetStream's API, when it is not at `$JS.API`. */
  readonly apiPrefix?: string;
  /** Put before every subject of a scenario, for identities that see more than one space. */
  readonly subjectPrefix?: string;
}

/** A server that programs run against: a nats-server, or a conat in one of its roles. */
export interface InteropServer {
  readonly target: ProgramTarget;
  /** Comes back at the same address with the same store; programs reconnect to it. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export type StartServer = () => Promise<InteropServer>;

/** nats-server with everybody in one account. */
export async function natsServer(): Promise<InteropServer> {
  const server = await NatsServerOracle.start();
  return {
    target: { url: server.url, tcpUrl: server.tcpUrl },
    restart: () => server.restart(),
    close: () => server.close(),
  };
}

/** conat with one root space that lets everybody in, as `rookery conat serve` has. */
export const conatRoot: StartServer = () =>
  conat((folder) => ({ jetStream: { accounts: [rootAccount('root', join(folder, 'root.db'))] } }));

/** conat as a space's programs see it: rooted, and no client needs an option. */
export const conatRooted: StartServer = () =>
  conat((folder) => ({
    rooted: space.id,
    jetStream: {
      accounts: [
        spaceAccount(space, join(folder, 'space.db')),
        spaceAccount({ root: 'space', id: 'other' }, join(folder, 'other.db')),
      ],
    },
  }));

/** A user of the broker: not rooted, with JetStream's API somewhere else. */
export const conatUnrooted: StartServer = () =>
  conat(
    (folder) => ({
      authenticator: new TokenAuthenticator({
        user: { name: 'user', permissions: { publish: within, subscribe: within, responses } },
      }),
      jetStream: {
        accounts: [spaceAccount(space, join(folder, 'space.db'))],
      },
    }),
    { credentials: { token: 'user' }, ...unrooted },
  );

/** nats-server with an account a space, which another account imports under its id. */
export async function natsServerWithAccounts(): Promise<InteropServer> {
  const services: Record<string, string> = {
    '$JS.API.>': `${unrooted.apiPrefix}.>`,
    // With an apiPrefix of their own, clients put keys behind it.
    '$KV.>': `${unrooted.apiPrefix}.$KV.>`,
    'st.>': `${unrooted.subjectPrefix}st.>`,
    '$JS.ACK.>': '$JS.ACK.>',
    '$JS.FC.>': '$JS.FC.>',
  };
  const exported = Object.keys(services).map(
    (subject) => `{ service: "${subject}", response_type: stream }`,
  );
  const imported = Object.entries(services).map(
    ([subject, to]) => `{ service: { account: PROJECT, subject: "${subject}" }, to: "${to}" }`,
  );
  const inboxes = `${unrooted.inboxPrefix}.>`;
  const server = await NatsServerOracle.start({
    config: `
      feature_flags { js_ack_fc_v2: true }
      accounts {
        PROJECT {
          jetstream: enabled
          users: [{ user: project, password: project }]
          exports: [${[...exported, `{ stream: "${inboxes}" }`].join(', ')}]
        }
        HUB {
          users: [{ user: hub, password: hub }]
          imports: [${[...imported, `{ stream: { account: PROJECT, subject: "${inboxes}" } }`].join(
            ', ',
          )}]
        }
      }`,
  });
  return {
    target: {
      url: server.url,
      tcpUrl: server.tcpUrl,
      credentials: { user: 'hub', pass: 'hub' },
      ...unrooted,
    },
    restart: () => server.restart(),
    close: () => server.close(),
  };
}

async function conat(
  options: (folder: string) => TestJetStreamOptions,
  target: Omit<ProgramTarget, 'url' | 'tcpUrl'> = {},
): Promise<InteropServer> {
  const folder = await mkdtemp(join(tmpdir(), 'conat-interop-'));
  let network: TestJetStream = await startTestJetStream({ ...options(folder), tcpPort: 0 });
  const { url, port, tcpPort } = network;
  return {
    target: { url, tcpUrl: `nats://127.0.0.1:${tcpPort}`, ...target },
    restart: async () => {
      await network.close();
      network = await startTestJetStream({ ...options(folder), port, tcpPort });
    },
    close: async () => {
      await network.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
