import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { jetstreamManager } from '@nats-io/jetstream';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { MiB, SystemExec, waitFor } from '@rookery/core';
import { rootAccount } from '@rookery/jetstream';
import { startTestJetStream, type TestJetStream } from '@rookery/jetstream/testing';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

let volume: TestVolume;
let broker: TestJetStream | null;
let client: NatsConnection | null;

beforeEach(async () => {
  [broker, client] = [null, null];
  volume = await loopbackVolume({ sizeBytes: 192 * MiB });
});

afterEach(async () => {
  await client?.close();
  await broker?.close();
  await volume?.destroy();
});

const messageBytes = 512 * 1024;
const triesMax = 20_000;

interface PubAck {
  readonly seq?: number;
  readonly error?: { readonly code: number; readonly err_code: number };
}

it('refuses what does not fit, loses nothing, goes on reading, and takes more when there is room', async () => {
  const account = rootAccount('root', join(volume.volume, 'conat.sqlite'));
  broker = await startTestJetStream({
    jetStream: { accounts: [account], options: { threads: 1 } },
  });
  client = await wsconnect({ servers: broker.url });
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: 's', subjects: ['s.>'], allow_direct: true });
  const ballast = join(volume.volume, 'ballast');
  await new SystemExec().run(['fallocate', '-l', String(96 * MiB), ballast]);

  const publish = async (text: string): Promise<PubAck> => {
    const payload = text.padEnd(messageBytes, ' ');
    return (await client!.request('s.x', payload, { timeout: 30_000 })).json<PubAck>();
  };
  const acknowledged = new Map<number, string>();
  let refused: PubAck | null = null;
  for (let i = 0; i < triesMax && !refused; i += 16) {
    const texts = Array.from({ length: 16 }, (_, k) => `m${i + k}`);
    const acks = await Promise.all(texts.map(publish));
    acks.forEach((ack, k) => {
      if (ack.seq) acknowledged.set(ack.seq, texts[k]!);
      else refused = ack;
    });
  }
  expect(refused).toMatchObject({ error: { code: 503, err_code: 10_023 } });

  const expectAll = async (): Promise<void> => {
    for (const [seq, text] of acknowledged) {
      const message = await manager.direct.getMessage('s', { seq });
      expect(message?.string().trimEnd()).toBe(text);
    }
  };
  await expectAll();
  await rm(ballast);
  // The room is there when btrfs has committed that the file is gone.
  const folder = await open(volume.volume, 'r');
  await folder.sync();
  await folder.close();
  const after = await waitFor(
    'there is room again',
    async () => {
      const ack = await publish('after');
      return ack.seq ? ack : undefined;
    },
    { timeoutMs: 30_000 },
  );
  expect(after.seq).toBe(Math.max(...acknowledged.keys()) + 1);
  await expectAll();
});
