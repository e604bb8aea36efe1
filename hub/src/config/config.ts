import { NatsFabricOptions } from '@rookery/conat';
import { parseConfig, CoreErrors } from '@rookery/core';
import { AppsUrl, TrustedProxyList } from '@rookery/proxy';
import { z } from 'zod';

const Role = z.enum(['api', 'worker', 'proxy']);
type HubRole = z.infer<typeof Role>;

const Roles = z
  .string()
  .transform((text) => text.split(',').map((role) => role.trim()))
  .pipe(z.array(Role).min(1))
  .default(['api', 'worker', 'proxy']);

const keptDays = z.coerce.number().int().min(1).max(36_500).default(90);

/** Every setting of the hub; the environment is read here and nowhere else. */
const HubEnvironment = z.object({
  /** Data folder: embedded Postgres, the hub's own secret. */
  ROOKERY_DATA: z.string().min(1),
  ROOKERY_PORT: z.coerce.number().int().min(0).max(65535).default(7700),
  ROOKERY_LISTEN: z.string().min(1).default('127.0.0.1'),
  /** How browsers reach this hub; default `http://<listen>:<port>`. */
  ROOKERY_PUBLIC_URL: z
    .url({ protocol: /^https?$/ })
    .transform((url) => url.replace(/\/+$/, ''))
    .optional(),
  /**
   * Below which browsers see each project's services at an origin of their own; default
   * `http://*.localhost:<port>` for a hub that is public on this machine alone.
   */
  ROOKERY_APPS_URL: AppsUrl.optional(),
  /** `shared`: browsers see projects on the hub's own origin, too; their pages can act there. */
  ROOKERY_PATH_ORIGIN: z.enum(['own', 'shared']).default('own'),
  /** TLS terminators and load balancers whose X-Forwarded-* are believed. */
  ROOKERY_TRUSTED_PROXIES: TrustedProxyList.default([]),
  /** Connections of one client address (IPv6: one /64), trusted proxies excepted. */
  ROOKERY_CONNECTIONS_PER_ADDRESS_MAX: z.coerce.number().int().min(1).default(1024),
  /** Requests of one client address to the hub itself under way at once. */
  ROOKERY_REQUESTS_PER_ADDRESS_MAX: z.coerce.number().int().min(1).default(256),
  /** Absent: Postgres runs in the data folder. */
  ROOKERY_DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }).optional(),
  ROOKERY_ROLES: Roles,
  /** Another hub process's /conat; absent: this process hosts the broker. */
  ROOKERY_CONAT_URL: z.url({ protocol: /^wss?$/ }).optional(),
  /** Shown by whoever reads /metrics; absent: only this machine may. */
  ROOKERY_METRICS_TOKEN: z
    .string()
    .regex(/^\S{16,200}$/)
    .optional(),
  ROOKERY_CONAT_SECRET: z.string().min(16).max(200).optional(),
  /** All nodes of a NATS cluster that joins the brokers of the hub's processes. */
  ROOKERY_CONAT_FABRIC: z.string().min(1).optional(),
  /** The seed of an nkey, or NATS credentials; instead of a password in the URLs. */
  ROOKERY_CONAT_FABRIC_CREDENTIALS_FILE: z.string().min(1).optional(),
  /** For tls:// nodes whose certificates no public authority signed. */
  ROOKERY_CONAT_FABRIC_CA_FILE: z.string().min(1).optional(),
  /** The entry script's, which may be exported around us; nothing here reads it. */
  ROOKERY_CACHE: z.string().optional(),
  ROOKERY_LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info'),
  ROOKERY_HOST_OFFLINE_AFTER_MS: z.coerce.number().int().min(500).max(3_600_000).default(15_000),
  /** Operations that have ended are forgotten after so long; the audit log keeps who did what. */
  ROOKERY_KEEP_OPERATIONS_DAYS: keptDays,
  /** The reasons for placements likewise. */
  ROOKERY_KEEP_PLACEMENTS_DAYS: keptDays,
  /** The quotas of a host's projects together may be so many times its disk. */
  ROOKERY_DISK_OVERCOMMIT: z.coerce.number().min(0.1).max(1000).default(20),
  /** The same of its memory. */
  ROOKERY_MEMORY_OVERCOMMIT: z.coerce.number().min(0.1).max(1000).default(32),
  /** The first start writes the first administrator's token here (0600). */
  ROOKERY_BOOTSTRAP_FILE: z.string().min(1).optional(),
});

export interface HubConfig {
  readonly dataDir: string;
  readonly port: number;
  readonly listen: string;
  readonly publicUrl: string;
  /** Undefined: browsers see no project. */
  readonly appsUrl: string | undefined;
  readonly pathOrigin: 'own' | 'shared';
  readonly trustedProxies: readonly string[];
  readonly connectionsPerAddressMax: number;
  readonly requestsPerAddressMax: number;
  readonly databaseUrl: string | undefined;
  readonly roles: readonly HubRole[];
  readonly conatUrl: string | undefined;
  readonly conatSecret: string | undefined;
  readonly metricsToken: string | undefined;
  /** Undefined: this process's broker is by itself. */
  readonly conatFabric: NatsFabricOptions | undefined;
  readonly logLevel: string;
  readonly hostOfflineAfterMs: number;
  readonly keepOperationsDays: number;
  readonly keepPlacementsDays: number;
  /** How many times its disk and memory a host may promise. */
  readonly overcommit: { readonly disk: number; readonly memory: number };
  readonly bootstrapFile: string | undefined;
}

/** Injection token of the parsed settings. */
export const HUB_CONFIG = Symbol('HUB_CONFIG');

/**
 * Parses the environment once.
 * @throws INVALID_CONFIG naming everything that is wrong, unknown ROOKERY_ names included.
 */
export function configFromEnvironment(env: NodeJS.ProcessEnv = process.env): HubConfig {
  const ours = Object.fromEntries(Object.entries(env).filter(([name]) => isOurs(name)));
  const unknown = Object.keys(ours).filter((name) => !(name in HubEnvironment.shape));
  if (unknown.length > 0) {
    throw CoreErrors.INVALID_CONFIG({ reason: `unknown names: ${unknown.sort().join(', ')}` });
  }
  const parsed = parseConfig(HubEnvironment, ours);
  const host = parsed.ROOKERY_LISTEN.includes(':')
    ? `[${parsed.ROOKERY_LISTEN}]`
    : parsed.ROOKERY_LISTEN;
  const publicUrl = parsed.ROOKERY_PUBLIC_URL ?? `http://${host}:${parsed.ROOKERY_PORT}`;
  return Object.freeze({
    dataDir: parsed.ROOKERY_DATA,
    port: parsed.ROOKERY_PORT,
    listen: parsed.ROOKERY_LISTEN,
    publicUrl,
    appsUrl: parsed.ROOKERY_APPS_URL ?? localAppsUrl(publicUrl),
    pathOrigin: parsed.ROOKERY_PATH_ORIGIN,
    trustedProxies: parsed.ROOKERY_TRUSTED_PROXIES,
    connectionsPerAddressMax: parsed.ROOKERY_CONNECTIONS_PER_ADDRESS_MAX,
    requestsPerAddressMax: parsed.ROOKERY_REQUESTS_PER_ADDRESS_MAX,
    databaseUrl: parsed.ROOKERY_DATABASE_URL,
    roles: parsed.ROOKERY_ROLES,
    conatUrl: parsed.ROOKERY_CONAT_URL,
    conatSecret: parsed.ROOKERY_CONAT_SECRET,
    metricsToken: parsed.ROOKERY_METRICS_TOKEN,
    conatFabric: fabricOf(parsed),
    logLevel: parsed.ROOKERY_LOG_LEVEL,
    hostOfflineAfterMs: parsed.ROOKERY_HOST_OFFLINE_AFTER_MS,
    keepOperationsDays: parsed.ROOKERY_KEEP_OPERATIONS_DAYS,
    keepPlacementsDays: parsed.ROOKERY_KEEP_PLACEMENTS_DAYS,
    overcommit: {
      disk: parsed.ROOKERY_DISK_OVERCOMMIT,
      memory: parsed.ROOKERY_MEMORY_OVERCOMMIT,
    },
    bootstrapFile: parsed.ROOKERY_BOOTSTRAP_FILE,
  });
}

/** Browsers resolve *.localhost to their own machine, without DNS: right where the hub is there. */
function localAppsUrl(publicUrl: string): string | undefined {
  const { protocol, hostname, port } = new URL(publicUrl);
  if (!['127.0.0.1', '[::1]', 'localhost'].includes(hostname)) return undefined;
  return `${protocol}//*.localhost${port === '' ? '' : `:${port}`}`;
}

const isOurs = (name: string): boolean => name.startsWith('ROOKERY_');

function fabricOf(parsed: z.infer<typeof HubEnvironment>): NatsFabricOptions | undefined {
  const servers = parsed.ROOKERY_CONAT_FABRIC;
  if (servers === undefined) return undefined;
  if (parsed.ROOKERY_CONAT_URL !== undefined) {
    const reason = 'ROOKERY_CONAT_FABRIC is for a broker of its own: leave ROOKERY_CONAT_URL out';
    throw CoreErrors.INVALID_CONFIG({ reason });
  }
  return parseConfig(NatsFabricOptions, {
    servers,
    credentialsFile: parsed.ROOKERY_CONAT_FABRIC_CREDENTIALS_FILE,
    caFile: parsed.ROOKERY_CONAT_FABRIC_CA_FILE,
  });
}
