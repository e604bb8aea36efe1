import {
  jetstream,
  jetstreamManager,
  type JetStreamClient,
  type JetStreamManager,
} from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/nats-core';
import { ConatClient } from '@rookery/conat';
import { RoutedConatClient } from '@rookery/fleet';
import { createLogger } from '@rookery/core';
import { usageError } from '../cli.errors.js';
import { findProject } from '../resolve.js';
import type { CommandRun } from '../run.js';
import { namedBroker, type BrokerOptions } from './broker-options.js';
import { Space } from './space.js';

/** Somebody waits at a prompt: a broker that is not there is told soon. */
const connectDialsMax = 2;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** One command's connection to a broker, and the part of it that the command is about. */
export class BrokerSession {
  /** What the broker did not let us publish to; it answers a publication in no other way. */
  private readonly refused: string[] = [];

  constructor(
    readonly client: ConatClient,
    readonly space: Space,
    /** Where it is: as the user named it, or `route://<host>` for a project’s. */
    readonly url: string,
    /** Ends the connection, and those that it took to make it. */
    readonly close: () => Promise<void> = () => client.close(),
    /** Said before something is destroyed; undefined: the hub that the command talks to. */
    readonly target?: string,
  ) {
    client.onPublishRefused((subject) => this.refused.push(subject));
  }

  get nats(): NatsConnection {
    return this.client.nats;
  }

  jetStream(): JetStreamClient {
    return jetstream(this.nats, this.apiOptions);
  }

  /** @throws what JetStream is refused with */
  manager(): Promise<JetStreamManager> {
    // Without the check a viewer, who may not ask for it, can look at streams all the same.
    return jetstreamManager(this.nats, { ...this.apiOptions, checkAPI: false });
  }

  buckets(): Kvm {
    return new Kvm(this.jetStream());
  }

  /** Everything published has reached the broker. @returns the first subject that it refused */
  async flush(): Promise<string | undefined> {
    await this.nats.flush();
    // A refusal came before the PONG, and is handed on a few turns later.
    await new Promise((resolve) => setImmediate(resolve));
    return this.refused[0];
  }

  private get apiOptions(): { apiPrefix?: string } {
    const { apiPrefix } = this.space;
    return apiPrefix === undefined ? {} : { apiPrefix };
  }
}

/** @throws CONAT_UNREACHABLE, CONAT_UNAUTHORIZED, USAGE, NOT_LOGGED_IN, PROJECT_UNKNOWN */
export async function openBroker(run: CommandRun, options: BrokerOptions): Promise<BrokerSession> {
  return options.server === undefined
    ? openAtHub(run, options)
    : openNamed(run, options.server, options);
}

async function openNamed(
  run: CommandRun,
  server: string,
  options: BrokerOptions,
): Promise<BrokerSession> {
  const { url, credentials, inbox } = await namedBroker(server, options);
  const { project } = options;
  if (project !== undefined && !uuid.test(project)) {
    throw usageError('with --server, --project is the project’s whole id');
  }
  const client = await ConatClient.connect({
    ...common(run, options),
    servers: url,
    identity: inbox,
    ...(credentials && { credentials }),
  });
  const close = (): Promise<void> => client.close();
  return new BrokerSession(client, new Space(project?.toLowerCase()), url, close, url);
}

async function openAtHub(run: CommandRun, options: BrokerOptions): Promise<BrokerSession> {
  const { user, password, tokenFile, inbox } = options;
  if ([user, password, tokenFile, inbox].some((one) => one !== undefined)) {
    throw usageError('--user, --password, --token-file and --inbox belong to --server');
  }
  const hub = await run.client();
  const project =
    options.project === undefined ? undefined : await findProject(hub, options.project);
  const access = await hub.createConatToken();
  const url = new URL(access.url, `${hub.url.replace(/^http/, 'ws')}/`).href;
  // Tokens live minutes; a command that listens may live longer than its connection.
  let first: string | undefined = access.token;
  const credentials = async (): Promise<{ token: string }> => {
    const token = first ?? (await hub.createConatToken()).token;
    first = undefined;
    return { token };
  };
  const control = await ConatClient.connect({
    ...common(run, options),
    servers: url,
    identity: access.inboxPrefix.replace(/^_INBOX\./, ''),
    credentials,
  });
  return project === undefined
    ? new BrokerSession(control, new Space(), url)
    : openProject(control, credentials, project.id);
}

/** The project's network is its host's broker, wherever that is now and later. */
async function openProject(
  control: ConatClient,
  credentials: () => Promise<{ token: string }>,
  projectId: string,
): Promise<BrokerSession> {
  const logger = createLogger('conat-routes', 'silent');
  const routed = new RoutedConatClient({ control, credentials, logger });
  const close = async (): Promise<void> => {
    await routed.close();
    await control.close();
  };
  try {
    const space = new Space(projectId);
    // Held until the end, also while the command says nothing.
    await routed.jetStream(projectId);
    const client = await routed.routeSubject(space.toBroker('>'));
    return new BrokerSession(client, space, `route://${client.nats.getServer()}`, close);
  } catch (error) {
    await close();
    throw error;
  }
}

function common(
  run: CommandRun,
  options: BrokerOptions,
): Pick<
  Parameters<typeof ConatClient.connect>[0],
  'name' | 'connectTimeoutMs' | 'connectDialsMax' | 'signal' | 'logger' | 'onStatus'
> {
  let lost = false;
  return {
    name: 'rookery-cli',
    connectTimeoutMs: options.connectTimeout * 1_000,
    connectDialsMax,
    signal: run.signal,
    // What goes wrong becomes the command's own error.
    logger: createLogger('conat-client', 'silent'),
    onStatus: (status) => {
      if (status === 'disconnected') run.progress.step('the connection is lost; trying again');
      else if (status === 'connected' && lost) run.progress.step('connected again');
      lost = status === 'disconnected';
    },
  };
}
