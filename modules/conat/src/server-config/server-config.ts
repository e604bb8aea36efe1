import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { ServerUser, UsersOptions } from '../auth/users-authenticator.js';
import type { BrokerLimitsInput } from '../broker/limits.js';
import { ConatErrors } from '../conat.errors.js';
import type { TlsOptions } from '../gateway/tcp-listener.js';
import { readAccounts, type AccountConfig } from './accounts.js';
import { named, readSettings, type Setter, type SettingValue } from './conf-reader.js';
import { parseNatsConf, type ConfMap } from './nats-conf.js';
import { password, readPermissions, readUsers, unboundedUser } from './users.js';

interface Address {
  host: string;
  port: number;
}

/** What a configuration file of nats-server's form says, as far as a broker here can do it. */
export interface ServerConfig {
  readonly name?: string;
  readonly tcp: Address & { readonly tls?: TlsOptions };
  readonly webSocket: (Address & { readonly tls?: TlsOptions }) | null;
  readonly monitoring: Address | null;
  /** Where streams are kept; null without JetStream. */
  readonly storeDir: string | null;
  readonly limits: BrokerLimitsInput;
  readonly drainMs?: number;
  readonly users: UsersOptions;
  readonly accounts: readonly AccountConfig[];
}

/** Where the file's variables may come from. */
type Environment = Readonly<Record<string, string | undefined>>;

const anyHost = '0.0.0.0';

/** @throws CONAT_CONFIG_INVALID with the line, for what cannot be read or is not supported */
export function readServerConfig(path: string, environment: Environment): ServerConfig {
  try {
    return new ConfigReader(path, environment).read();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw ConatErrors.CONAT_CONFIG_INVALID({ path, reason }, { cause: error });
  }
}

/** The settings of one file, gathered key by key; refused by its name is what is not here. */
class ConfigReader {
  private readonly tcp: Address = { host: anyHost, port: 4_222 };
  private tls: TlsOptions | undefined;
  private webSocket: (Partial<Address> & { tls?: TlsOptions }) | null = null;
  private monitoring: Partial<Address> | null = null;
  private storeDir: string | null = null;
  private name: string | undefined;
  private drainMs: number | undefined;
  private limits: { -readonly [key in keyof BrokerLimitsInput]: BrokerLimitsInput[key] } = {};
  private users: ServerUser[] = [];
  private accounts: readonly AccountConfig[] = [];
  private token: string | undefined;
  private permissions = unboundedUser;
  private nobody: SettingValue | undefined;

  constructor(
    private readonly path: string,
    private readonly environment: Environment,
  ) {}

  read(): ServerConfig {
    readSettings(this.parse(), this.settings());
    const { users, token, permissions, nobody, tls, name, drainMs } = this;
    const twice = users.find(({ name, nkey }, at) =>
      users.slice(0, at).some((one) => (nkey ?? name) === (one.nkey ?? one.name)),
    );
    if (twice) throw new Error(`the user "${twice.name ?? twice.nkey}" is there twice`);
    if (nobody && !users.some((user) => user.name === nobody.text())) {
      throw nobody.wrong('is not one of the users');
    }
    return {
      tcp: { ...this.tcp, ...(tls && { tls }) },
      webSocket: this.webSocket && { ...this.tcp, port: 0, ...this.webSocket },
      monitoring: this.monitoring && { host: this.tcp.host, port: 8_222, ...this.monitoring },
      storeDir: this.storeDir,
      limits: this.limits,
      accounts: this.accounts,
      users: {
        users,
        permissions,
        ...(token !== undefined && { token }),
        ...(nobody && { nobody: nobody.text() }),
      },
      ...(name !== undefined && { name }),
      ...(drainMs !== undefined && { drainMs }),
    };
  }

  private parse(): ConfMap {
    const folder = dirname(this.path);
    return parseNatsConf(readFileSync(this.path, 'utf8'), {
      include: (file) => readFileSync(resolve(folder, file), 'utf8'),
      variable: (name) => this.environment[name],
    });
  }

  private settings(): Record<string, Setter> {
    return {
      server_name: (value) => (this.name = value.text()),
      ...named(['host', 'net'], (value) => (this.tcp.host = value.text())),
      port: (value) => (this.tcp.port = value.port()),
      listen: (value) => Object.assign(this.tcp, value.address()),
      ...named(['http', 'http_port', 'monitor_port'], (value) => {
        this.monitoring = value.address();
      }),
      tls: (value) => (this.tls = this.readTls(value)),
      websocket: (value) => this.readWebSocket(value),
      jetstream: (value) => this.readJetStream(value),
      authorization: (value) => this.readAuthorization(value),
      accounts: (value) => {
        const { accounts, users: found } = readAccounts(value);
        this.accounts = accounts;
        this.users.push(...found);
      },
      no_auth_user: (value) => (this.nobody = value),
      ...named(['lame_duck_duration'], (value) => (this.drainMs = value.ms())),
      ...this.limitSettings(),
    };
  }

  private limitSettings(): Record<string, Setter> {
    const { limits } = this;
    return {
      max_payload: (value) => (limits.payloadBytesMax = value.count(1)),
      ...named(['max_connections', 'max_conn'], (value) => this.setConnections(value.count(1))),
      ...named(['max_subscriptions', 'max_subs'], (value) => {
        limits.subscriptionsPerConnectionMax = value.count(1);
      }),
      max_control_line: (value) => (limits.controlLineBytesMax = value.count(64)),
      max_pending: (value) => (limits.pendingBytesMax = value.count(1)),
      max_sub_tokens: (value) => (limits.subjectTokensMax = value.count(1)),
      ping_interval: (value) => (limits.pingEveryMs = Math.max(1, Math.round(value.ms()))),
      ping_max: (value) => (limits.pingsOutMax = value.count(1)),
    };
  }

  private setConnections(max: number): void {
    const { limits } = this;
    limits.connectionsMax = max;
    limits.connectionsPerIdentityMax = max;
    limits.connectionsPerAddressMax = max;
  }

  private readTls(block: SettingValue): TlsOptions {
    let [cert, key] = ['', ''];
    let handshakeFirst = false;
    const pem = (value: SettingValue): string => {
      try {
        return readFileSync(resolve(dirname(this.path), value.text()), 'utf8');
      } catch (error) {
        throw value.wrong(`cannot be read: ${(error as Error).message}`);
      }
    };
    block.each({
      cert_file: (value) => (cert = pem(value)),
      key_file: (value) => (key = pem(value)),
      ...named(['handshake_first', 'first'], (value) => (handshakeFirst = value.flag())),
    });
    if (cert === '' || key === '') throw block.wrong('wants cert_file and key_file');
    return { cert, key, handshakeFirst };
  }

  private readWebSocket(block: SettingValue): void {
    const found: Partial<Address> & { tls?: TlsOptions } = {};
    let plain = false;
    block.each({
      ...named(['host', 'net'], (value) => (found.host = value.text())),
      port: (value) => (found.port = value.port()),
      listen: (value) => Object.assign(found, value.address()),
      no_tls: (value) => (plain = value.flag()),
      tls: (value) => (found.tls = this.readTls(value)),
      compression: (value) => {
        if (value.flag()) throw value.wrong('is not supported here');
      },
    });
    if (!found.tls && !plain) throw block.wrong('wants a tls block, or no_tls: true');
    this.webSocket = found;
  }

  private readJetStream(value: SettingValue): void {
    if (!value.isMap) {
      if (value.raw === false || value.raw === 'disabled') return;
      throw value.wrong('wants a block with store_dir');
    }
    value.each({
      ...named(['store_dir', 'storedir', 'store'], (dir) => {
        this.storeDir = resolve(dirname(this.path), dir.text());
      }),
    });
    if (this.storeDir === null) throw value.wrong('wants store_dir');
  }

  private readAuthorization(block: SettingValue): void {
    let user: string | undefined;
    let pass: string | undefined;
    block.each({
      ...named(['user', 'username'], (value) => (user = value.text())),
      ...named(['pass', 'password'], (value) => (pass = password(value))),
      token: (value) => (this.token = value.text()),
      users: (value) => this.users.push(...readUsers(value)),
      ...named(['default_permissions', 'default_permission'], (value) => {
        this.permissions = readPermissions(value);
      }),
      timeout: (value) => (this.limits.authTimeoutMs = Math.max(1, Math.round(value.ms()))),
    });
    if ((user === undefined) !== (pass === undefined)) {
      throw block.wrong('wants both a user and a password');
    }
    if (user !== undefined && pass !== undefined) {
      if (this.users.length > 0) throw block.wrong('has both a user and a list of users');
      this.users.push({ name: user, password: pass });
    }
  }
}
