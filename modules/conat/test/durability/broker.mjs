// A broker with persistence in a process of its own, to be killed: `node broker.mjs DIR [off]`.
// Says its URL on stdout; ends when stdin does.
import { Broker, JetStream, RootAccountDirectory, serveBroker } from '@rookery/conat';
import { AllowAllAuthenticator } from '@rookery/conat/testing';

const [folder, synchronous = 'full'] = process.argv.slice(2);
const broker = new Broker({ authenticator: new AllowAllAuthenticator() });
const jetStream = new JetStream({ broker, synchronous, threads: 1 });
await jetStream.start(await new RootAccountDirectory(folder).list());
const { url } = await serveBroker({ broker });
process.stdout.write(`${url}\n`);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
