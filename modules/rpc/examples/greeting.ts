/** A typed service over conat: one contract, of which a server and a client are made. */
import { Broker, ConatClient, StandaloneAuthenticator } from '@rookery/conat';
import { createServiceClient, serve } from '@rookery/rpc';
import { call, job, service } from '@rookery/rpc/contract';
import { z } from 'zod';

/** Shared by both sides; what crosses is parsed on receipt. */
const greeting = service(
  'greeting',
  { version: 1 },
  {
    hello: call(z.object({ name: z.string() }), z.object({ text: z.string() })),
    /** Long work: progress comes while it runs. */
    countTo: job(z.object({ last: z.int() }), z.object({ sum: z.int() })),
  },
);

/** @returns what was answered, and how many steps of the long work were told */
export async function greet(name: string): Promise<{ text: string; sum: number; steps: number }> {
  const broker = new Broker({ authenticator: new StandaloneAuthenticator(undefined) });
  const connect = (identity: string): Promise<ConatClient> =>
    ConatClient.connect({ servers: broker, identity });
  const [there, here] = await Promise.all([connect('server'), connect('caller')]);
  const server = await serve(there, greeting, {
    hello: async (input) => ({ text: `Hello, ${input.name}.` }),
    countTo: async ({ last }, context) => {
      let sum = 0;
      for (let n = 1; n <= last; n += 1) {
        sum += n;
        context.progress({ step: 'count', done: n, total: last, unit: 'steps' });
      }
      return { sum };
    },
  });
  try {
    const client = createServiceClient(here, greeting, {});
    let steps = 0;
    const { text } = await client.hello({ name });
    const { sum } = await client.countTo({ last: 4 }, { onProgress: () => (steps += 1) });
    return { text, sum, steps };
  } finally {
    await server.close();
    await Promise.all([here.close(), there.close()]);
  }
}
