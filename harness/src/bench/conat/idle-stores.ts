/**
 * `node --expose-gc idle-stores.js FOLDER COUNT`: makes so many projects' stores with a stream
 * each, starts again over them, waits until all are closed, and prints what they take.
 */
import { join } from 'node:path';
import { Authenticator, Broker } from '@rookery/conat';
import { JetStream, spaceAccount } from '@rookery/jetstream';
import { waitFor } from '@rookery/core';

class Nobody extends Authenticator {
  authenticate(): Promise<null> {
    return Promise.resolve(null);
  }
}

const collect = (globalThis as { gc?: () => void }).gc ?? ((): void => undefined);

async function open(folder: string, count: number, make: boolean): Promise<number> {
  const broker = new Broker({ authenticator: new Nobody() });
  collect();
  const before = process.memoryUsage().rss;
  const accounts = Array.from({ length: count }, (_, n) =>
    spaceAccount({ root: 'project', id: `p${n}` }, join(folder, `p${n}.sqlite`)),
  );
  const jetStream = new JetStream({ accounts, limits: { idleCloseMs: 1_000 } });
  await jetStream.start(broker);
  if (make) await makeStreams(broker, accounts.length);
  const { counters } = jetStream;
  await waitFor('all stores are closed', () => counters.openAccounts === 0, {
    timeoutMs: 120_000,
    everyMs: 200,
  });
  collect();
  const bytes = process.memoryUsage().rss - before;
  await jetStream.close();
  return bytes;
}

async function makeStreams(broker: Broker, count: number): Promise<void> {
  const client = broker.internal('bench');
  let answers = 0;
  const end = client.subscribe('_INBOX.bench.made', '', () => void (answers += 1));
  for (let n = 0; n < count; n += 1) {
    client.publish({
      to: `project.p${n}.js.api.STREAM.CREATE.S`,
      reply: '_INBOX.bench.made',
      payload: Buffer.from('{"name": "S", "subjects": ["s.>"]}'),
    });
  }
  await waitFor('all streams', () => answers === count, { timeoutMs: 120_000, everyMs: 50 });
  end();
}

const [folder = '', count = '0'] = process.argv.slice(2);
await open(folder, Number(count), true);
const bytes = await open(folder, Number(count), false);
process.stdout.write(`${JSON.stringify({ bytes })}\n`);
process.exit(0);
