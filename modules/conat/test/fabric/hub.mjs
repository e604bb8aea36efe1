// A process of a pool, to be killed: `node hub.mjs NAME SERVERS`. Says its URL on stdout; ends when
// stdin does.
import { Broker, NatsFabric, serveBroker } from '@rookery/conat';
import { AllowAllAuthenticator } from '@rookery/conat/testing';

const [name, servers] = process.argv.slice(2);
const fabric = new NatsFabric(servers, { name });
const broker = new Broker({ authenticator: new AllowAllAuthenticator(), fabric });
await fabric.start();
const { url } = await serveBroker({ broker });
process.stdout.write(`${url}\n`);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
