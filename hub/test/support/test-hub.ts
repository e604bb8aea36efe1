import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { OperationView, ProjectView, Problem } from '@rookery/api';
import { waitFor } from '@rookery/core';
import type { z } from 'zod';
import { configFromEnvironment } from '../../src/config/config.js';
import type { HubTuning } from '../../src/config/tuning.js';
import { createHub } from '../../src/hub.js';

export type Operation = z.output<typeof OperationView>;
export type Project = z.output<typeof ProjectView>;

export interface Answer<T> {
  readonly status: number;
  readonly body: T;
  readonly headers: Headers;
}

export interface CallInit {
  readonly token?: string | null;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** A whole hub process in this one, on a real port, over a real Postgres. */
export class TestHub {
  private constructor(
    readonly app: NestExpressApplication,
    readonly url: string,
    readonly port: number,
    readonly dir: string,
    readonly admin: { token: string; accountId: string },
  ) {}

  static async start(
    databaseUrl: string,
    env: Record<string, string> = {},
    tuning: Partial<HubTuning> = {},
  ): Promise<TestHub> {
    const dir = await mkdtemp(join(tmpdir(), 'rookery-hub-'));
    const port = await freePort();
    const bootstrapFile = join(dir, 'bootstrap.json');
    const config = configFromEnvironment({
      ROOKERY_DATA: dir,
      ROOKERY_PORT: String(port),
      ROOKERY_DATABASE_URL: databaseUrl,
      ROOKERY_LOG_LEVEL: process.env['TEST_LOG'] ?? 'silent',
      ROOKERY_HOST_OFFLINE_AFTER_MS: '1500',
      ROOKERY_BOOTSTRAP_FILE: bootstrapFile,
      ...env,
    });
    const app = await createHub(config, { checkResponses: true, leaseMs: 2000, ...tuning });
    await app.listen(port, '127.0.0.1');
    const text = await readFile(bootstrapFile, 'utf8').catch(() => '{}');
    const admin = JSON.parse(text) as { token: string; accountId: string };
    return new TestHub(app, `http://127.0.0.1:${port}`, port, dir, admin);
  }

  async close(): Promise<void> {
    await this.app.close();
    await rm(this.dir, { recursive: true, force: true });
  }

  async call<T = Record<string, unknown>>(
    method: string,
    path: string,
    init: CallInit = {},
  ): Promise<Answer<T>> {
    const { token = this.admin.token, body, headers } = init;
    const response = await fetch(`${this.url}/api/v1${path}`, {
      method,
      redirect: 'manual',
      headers: {
        ...(token !== null && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return {
      status: response.status,
      body: (await response.json()) as T,
      headers: response.headers,
    };
  }

  /** The answer's body; any other status than 2xx fails the test with its problem. */
  async ok<T = Record<string, unknown>>(
    method: string,
    path: string,
    init: CallInit = {},
  ): Promise<T> {
    const { status, body } = await this.call<T>(method, path, init);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  /** The problem's code. */
  async problem(method: string, path: string, init: CallInit = {}): Promise<string> {
    const { status, body, headers } = await this.call<z.output<typeof Problem>>(method, path, init);
    if (status < 400) throw new Error(`${method} ${path} succeeded: ${JSON.stringify(body)}`);
    if (headers.get('content-type') !== 'application/problem+json') {
      throw new Error(`not a problem: ${headers.get('content-type')}`);
    }
    if (body.status !== status) throw new Error('the problem’s status is not the answer’s');
    return body.code;
  }

  async ended(
    operationId: string,
    timeoutMs = 20_000,
    token = this.admin.token,
  ): Promise<Operation> {
    return waitFor(
      `operation ${operationId} ends`,
      async () => {
        const operation = await this.ok<Operation>('GET', `/operations/${operationId}`, { token });
        return operation.endedAt === null && operation.state !== 'stuck' ? undefined : operation;
      },
      { timeoutMs, everyMs: 30 },
    );
  }

  async succeeded(started: { operation: Operation }): Promise<Operation> {
    const operation = await this.ended(started.operation.id);
    if (operation.state !== 'succeeded') {
      throw new Error(`${operation.kind} ${operation.state}: ${JSON.stringify(operation.error)}`);
    }
    return operation;
  }

  project(id: string): Promise<Project> {
    return this.ok<Project>('GET', `/projects/${id}`);
  }

  async createProject(body: Record<string, unknown> = {}): Promise<Project> {
    const started = await this.ok<{ operation: Operation; project: Project }>('POST', '/projects', {
      body: { name: 'a project', ...body },
    });
    await this.succeeded(started);
    return this.project(started.project.id);
  }

  async createAccount(email: string): Promise<{ token: string; accountId: string }> {
    const { account, token } = await this.ok<{ account: { id: string }; token: string }>(
      'POST',
      '/accounts',
      { body: { email, name: email } },
    );
    return { token, accountId: account.id };
  }

  async joinToken(): Promise<string> {
    return (await this.ok<{ token: string }>('POST', '/hosts/join-tokens', { body: {} })).token;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}
