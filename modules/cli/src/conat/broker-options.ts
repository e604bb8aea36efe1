import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { usageError } from '../cli.errors.js';
import { positive } from '../parameters.js';
import type { GlobalOptions } from '../run.js';

/** Which broker a command talks to, and as whom. */
export interface BrokerOptions extends GlobalOptions {
  readonly server?: string;
  readonly user?: string;
  readonly password?: string;
  readonly tokenFile?: string;
  readonly inbox?: string;
  readonly project?: string;
  readonly connectTimeout: number;
}

const connectTimeoutDefaultS = 10;

/** Puts the options of every command that talks to a broker on one. */
export const withBroker = (command: Command): Command =>
  command
    .option('--server <url>', 'broker: ws://…/conat, wss://… or nats://… (default: the hub’s)')
    .option('--user <name>', 'with --server: user name')
    .option('--password <password>', 'with --server: password')
    .option('--token-file <path>', 'with --server: file with the token (or --token)')
    .option('--inbox <name>', 'with --server: replies come to _INBOX.<name>.>')
    .option('-p, --project <project>', 'in the space of this project: subjects, streams, buckets')
    .option('--connect-timeout <seconds>', 'how long to try', positive, connectTimeoutDefaultS);

/** A broker that was named, and what it is shown. */
export interface NamedBroker {
  /** Without credentials. */
  readonly url: string;
  readonly credentials: { token: string } | { user: string; password: string } | undefined;
  readonly inbox: string;
}

/**
 * Credentials may be options or part of the URL, as NATS clients have it.
 * @throws USAGE
 */
export async function namedBroker(server: string, options: BrokerOptions): Promise<NamedBroker> {
  const url = parsed(server);
  const user = options.user ?? part(url.password === '' ? '' : url.username);
  const password = options.password ?? part(url.password);
  const token =
    options.token ??
    (options.tokenFile === undefined ? undefined : await readSecret(options.tokenFile)) ??
    part(url.password === '' ? url.username : '');
  if (token !== undefined && user !== undefined) {
    throw usageError('give a token, or a user and a password');
  }
  if ((user === undefined) !== (password === undefined)) {
    throw usageError('--user and --password belong together');
  }
  url.username = '';
  url.password = '';
  const credentials =
    user !== undefined && password !== undefined
      ? { user, password }
      : token === undefined
        ? undefined
        : { token };
  const inbox = options.inbox ?? inboxOfToken(token) ?? 'rookery-cli';
  if (!/^[^\s.*>]+$/.test(inbox)) throw usageError('--inbox is one word without . * and >');
  return { url: url.href, credentials, inbox };
}

function parsed(server: string): URL {
  const given = /^[a-z]+:\/\//i.test(server) ? server : `nats://${server}`;
  if (!URL.canParse(given)) throw usageError(`${server} is no URL of a broker`);
  const url = new URL(given);
  if (!['ws:', 'wss:', 'http:', 'https:', 'nats:'].includes(url.protocol)) {
    throw usageError(`${url.protocol}// is not known here: use ws://, wss:// or nats://`);
  }
  return url;
}

const part = (text: string): string | undefined =>
  text === '' ? undefined : decodeURIComponent(text);

/** A hub's access token says whose inbox its bearer has. */
function inboxOfToken(token: string | undefined): string | undefined {
  const claims = token?.split('.')[1];
  if (claims === undefined) return undefined;
  try {
    const { sub } = JSON.parse(Buffer.from(claims, 'base64url').toString('utf8')) as {
      sub?: unknown;
    };
    return typeof sub === 'string' && sub !== '' ? sub.replace(':', '-') : undefined;
  } catch {
    return undefined;
  }
}

/** @throws USAGE */
export async function readSecret(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    throw usageError(`the token file cannot be read: ${(error as Error).message}`);
  }
}
