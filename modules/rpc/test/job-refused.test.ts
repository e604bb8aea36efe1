import { afterEach, describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import { Fence } from '@rookery/core/contract';
import { job, service } from '@rookery/rpc/contract';
import { Authenticator, type ConatIdentity, type ConnectRequest } from '@rookery/conat';
import { createServiceClient, serve } from '@rookery/rpc';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { z } from 'zod';

const contract = service(
  'host.{hostId}.work',
  { version: 1 },
  { build: job(z.object({ fence: Fence }), z.object({ n: z.int() }), { silenceMs: 600_000 }) },
);
const params = { hostId: 'h1' };
const fence = () => ({ projectId: newId(), generation: 1, operationId: newId(), attempt: 1 });

/** `stranger` may ask nobody. */
class Strict extends Authenticator {
  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity> {
    const { name } = options;
    const publish = name === 'stranger' ? { allow: ['_INBOX.>'] } : { allow: ['>'] };
    return { name, permissions: { publish, subscribe: { allow: ['>'] }, inboxes: 'all' } };
  }
}

let network: TestBroker | undefined;

afterEach(async () => {
  await network?.close();
  network = undefined;
});

describe('a job that its caller may not ask for', () => {
  it('fails at once, and leaves the caller’s connection as it was', async () => {
    network = await startTestBroker({ authenticator: new Strict() });
    const asked: string[] = [];
    const server = await serve(
      await network.connect({ identity: 'host-h1' }),
      contract,
      { build: async (_input, { caller }) => ({ n: asked.push(caller) }) },
      { params },
    );
    const stranger = createServiceClient(
      await network.connect({ identity: 'stranger' }),
      contract,
      params,
    );
    const hub = createServiceClient(await network.connect({ identity: 'hub' }), contract, params);
    try {
      const refusal = { code: 'SERVICE_FORBIDDEN', status: 403 };
      await expect(stranger.build({ fence: fence() })).rejects.toMatchObject(refusal);
      await expect(stranger.build({ fence: fence() })).rejects.toMatchObject(refusal);
      expect(await hub.build({ fence: fence() })).toEqual({ n: 1 });
      expect(asked).toHaveLength(1);
    } finally {
      await server.close(0);
    }
  });
});
