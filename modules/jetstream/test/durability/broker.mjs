// A broker with persistence in a process of its own, to be killed: `node broker.mjs DIR [off]`.
// Says its URL on stdout; ends when stdin does.
import { Broker, serveBroker } from '@rookery/conat';
import { JetStream, RootAccountDirectory } from '@rookery/jetstream';
import { AllowAllAuthenticator } from '@rookery/conat/testing';

const [folder, synchronous = 'full'] = process.argv.slice(2);
const broker = new Broker({ authenticator: new AllowAllAuthenticator() });
const accounts = new RootAccountDirectory(folder);
const persistence = new JetStream({ accounts, synchronous, threads: 1 });
await persistence.start(broker);
const { url } = await serveBroker({ broker, persistence });
process.stdout.write(`${url}\n`);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
