import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Broker,
  serveBroker,
  StandaloneAuthenticator,
  type StandaloneServer,
} from '@rookery/conat';
import { natsServerMissing, NatsServerOracle } from '@rookery/conat/testing';
import { RawSocket } from './raw-socket.js';

const token = 'open sesame';
let oracle: NatsServerOracle;
let conat: StandaloneServer;
const opened: RawSocket[] = [];

const missing = await natsServerMissing();

beforeAll(async () => {
  if (missing !== undefined) return;
  oracle = await NatsServerOracle.start({
    jetStream: false,
    config: `authorization { token: "${token}" }`,
  });
  const authenticator = new StandaloneAuthenticator(token);
  conat = await serveBroker({
    broker: new Broker({ authenticator }),
    tcp: { host: '127.0.0.1', port: 0 },
  });
});

afterAll(async () => {
  for (const socket of opened) socket.destroy();
  await conat?.close(0);
  await oracle?.close();
});

const ports = (): Record<'nats-server' | 'conat', number> => ({
  'nats-server': Number(new URL(oracle.tcpUrl.replace('nats:', 'http:')).port),
  conat: conat.tcp!.port,
});

interface Heard {
  readonly text: string;
  readonly closed: boolean;
}

/** Says a script to one server, in `parts` or at once. */
async function play(port: number, script: string): Promise<Heard> {
  const socket = await RawSocket.open(port);
  opened.push(socket);
  await socket.heard('\r\n');
  socket.say(script);
  const pings = script.split('PING\r\n').length - 1;
  const text = await socket.transcript(pings === 0 ? Infinity : pings);
  const heard = { text: withoutInfo(text), closed: socket.closed };
  socket.destroy();
  return heard;
}

/** INFO lines have their own test; here only that there was one. */
const withoutInfo = (text: string): string => text.replace(/INFO \{.*?\} ?\r\n/g, '<INFO>');

const connect = (options: object = {}): string =>
  `CONNECT ${JSON.stringify({ verbose: false, pedantic: false, auth_token: token, ...options })}\r\n`;
const header = 'NATS/1.0\r\nA: b\r\nA:  c\u00e9 \r\n\r\n';
const modern = { headers: true, no_responders: true, protocol: 1 };
const ping = 'PING\r\n';

const scripts: Record<string, string> = {
  'greets a modern client with INFO behind the first PONG only':
    connect({ protocol: 1, name: 'n', lang: 'x', version: '1' }) + ping + ping,
  'greets an old client without': connect() + ping + ping,
  'is verbose by default': `CONNECT {"auth_token":"${token}"}\r\nSUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\n${ping}`,
  'takes an empty password for none': 'CONNECT {"verbose":false}\r\n',
  'refuses a wrong token': connect({ auth_token: 'wrong' }),
  'wants CONNECT first': ping,
  'wants CONNECT first, also from nonsense': 'FOO\r\n',
  'refuses protocol 2': connect({ protocol: 2 }),
  'refuses protocol -1': connect({ protocol: -1 }),
  'refuses no_responders without headers': connect({ no_responders: true }),
  'refuses headers of a client without': connect() + `HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n`,
  'refuses JSON that is none': 'CONNECT {oops}\r\n',
  'refuses an empty CONNECT': 'CONNECT\r\n',
  'refuses CONNECT with a wrong type': `CONNECT {"auth_token":"${token}","name":5}\r\n`,
  'takes null for what is left out': connect({ name: null, lang: null, echo: null }) + ping,
  'ignores unknown keys': connect({ shoe: 43, tls_required: false, account: undefined }) + ping,
  'echoes by default': connect() + `SUB a 1\r\nPUB a 1\r\nx\r\n${ping}`,
  'does not echo when told': connect({ echo: false }) + `SUB a 1\r\nPUB a 1\r\nx\r\n${ping}`,
  'takes another CONNECT': connect() + connect({ verbose: true }) + `SUB a 1\r\n${ping}`,
  'takes any case, tabs and spaces':
    connect() + `sub\ta  1 \r\npUb \ta\t 1\r\nx\r\nUnSuB\t1\r\npInG\r\n${ping}`,
  'takes lone line feeds': connect() + `SUB a 1\nPUB a 1\nx\r\n${ping}`,
  'takes words behind PING and PONG': connect() + `PING x\r\nPONG y\r\n${ping}`,
  'takes +OK and INFO': connect() + `+OK\r\nINFO {}\r\n${ping}`,
  'closes on -ERR': connect() + `-ERR 'x'\r\n`,
  'closes on an unknown verb': connect() + 'FOO a\r\n',
  'closes on an empty line': connect() + '\r\n',
  'closes on MSG': connect() + 'MSG a 1 1\r\n',
  'closes on PUBX': connect() + 'PUBX a 1\r\n',
  'closes on PUB without words': connect() + 'PUB\r\n',
  'closes on PUB with one word': connect() + 'PUB a\r\n',
  'closes on PUB with four words': connect() + 'PUB a b c 1\r\n',
  'closes on PUB of a negative size': connect() + 'PUB a -1\r\n',
  'closes on PUB of a size in hex': connect() + 'PUB a 0x1\r\n',
  'closes on PUB of a huge size': connect() + 'PUB a 999999999\r\n',
  'closes on PUB of an absurd size': connect() + 'PUB a 99999999999999999999\r\n',
  'closes on PUB over max_payload': connect() + 'PUB a 1048577\r\n',
  'closes on HPUB over max_payload': connect(modern) + 'HPUB a 12 1048577\r\n',
  'closes on HPUB with one size': connect(modern) + 'HPUB a 12\r\n',
  'closes on HPUB with headers over its size': connect(modern) + 'HPUB a 12 11\r\n',
  'closes on a payload longer than said': connect() + 'PUB a 1\r\nxy\r\n',
  'closes on a payload without its end': connect() + 'PUB a 1\r\nx\nPING\r\n',
  'closes on SUB without sid': connect() + 'SUB a\r\n',
  'closes on SUB without words': connect() + 'SUB\r\n',
  'closes on SUB with four words': connect() + 'SUB a b c d\r\n',
  'closes on UNSUB without words': connect() + 'UNSUB\r\n',
  'closes on UNSUB with three words': connect() + 'UNSUB 1 2 3\r\n',
  'closes on a line that never ends': connect() + `SUB ${'a'.repeat(5_000)}`,
  'closes on a line that is too long': connect() + `SUB ${'a'.repeat(5_000)} 1\r\n`,
  // Our bound of subjects is lower than that of lines: the rest of the line is its queue or reply.
  'takes a line of 4,096 bytes':
    connect() + `SUB ${'a'.repeat(2_000)} ${'q'.repeat(2_093)} 1\r\n${ping}`,
  'closes on a line of 4,097 bytes':
    connect() + `SUB ${'a'.repeat(2_000)} ${'q'.repeat(2_094)} 1\r\n${ping}`,
  'takes a publication’s line of 4,096 bytes':
    connect() +
    `SUB > 1\r\nPUB ${'a'.repeat(2_046)} ${'b'.repeat(2_047)} 1\r\nx\r\n${ping}` +
    `PUB \t ${'a'.repeat(2_046)} ${'b'.repeat(2_047)} 1\r\nx\r\n${ping}`,
  'closes on a publication’s line of 4,097 bytes':
    connect() + `PUB ${'a'.repeat(2_047)} ${'b'.repeat(2_047)} 1\r\nx\r\n${ping}`,
  'takes HPUB’s line of 4,096 bytes':
    connect(modern) +
    `SUB > 1\r\nHPUB ${'a'.repeat(2_045)} ${'b'.repeat(2_044)} 12 14\r\nNATS/1.0\r\n\r\nhi\r\n${ping}`,
  'closes on HPUB’s line of 4,097 bytes':
    connect(modern) +
    `HPUB ${'a'.repeat(2_046)} ${'b'.repeat(2_044)} 12 14\r\nNATS/1.0\r\n\r\nhi\r\n${ping}`,
  'refuses bad subjects of subscriptions':
    connect() + `SUB a..b 1\r\nSUB a.>.b 2\r\nSUB .a 3\r\nSUB a. 4\r\nSUB > 5\r\n${ping}`,
  'takes odd subjects of subscriptions':
    connect() +
    `SUB a*b 1\r\nSUB a>b 2\r\nSUB a.*.> 3\r\nPUB a*b 1\r\nx\r\nPUB a>b 0\r\n\r\n${ping}`,
  'complains of wildcards and empty tokens when pedantic, and goes on':
    connect({ pedantic: true }) +
    `SUB > 1\r\nPUB a.* 1\r\nx\r\nPUB a..b 1\r\nx\r\nPUB .a 0\r\n\r\nPUB a.> 0\r\n\r\n${ping}`,
  'routes wildcards and empty tokens when not pedantic':
    connect() +
    `SUB > 1\r\nSUB a.* 2\r\nPUB a.* 1\r\nx\r\nPUB a..b 1\r\nx\r\nPUB .a 0\r\n\r\nPUB a.> 0\r\n\r\n${ping}`,
  'carries headers byte for byte':
    connect(modern) +
    `SUB a 1\r\nHPUB a r.x ${header.length} ${header.length + 2}\r\n${header}hi\r\n` +
    `HPUB a ${header.length} ${header.length}\r\n${header}\r\n${ping}`,
  'takes HPUB without a header block': connect(modern) + `SUB a 1\r\nHPUB a 0 1\r\nx\r\n${ping}`,
  'does not look into headers':
    connect(modern) + `SUB a 1\r\nHPUB a 4 6\r\n\0\xff\r\nhi\r\n${ping}`,
  'says 503 when nobody hears': connect(modern) + `SUB in.* 1\r\nPUB no in.1 2\r\nhi\r\n${ping}`,
  'says 503 on one subscription of several':
    connect(modern) + `SUB in.1 7\r\nPUB no in.1 0\r\n\r\nUNSUB 7\r\nPUB no in.1 0\r\n\r\n${ping}`,
  'says no 503 without no_responders':
    connect({ headers: true }) + `SUB in.* 1\r\nPUB no in.1 2\r\nhi\r\n${ping}`,
  'counts 503 for UNSUB with max':
    connect(modern) +
    `SUB in.* 1\r\nUNSUB 1 1\r\nPUB no in.1 0\r\n\r\nPUB no in.2 0\r\n\r\nPUB in.3 0\r\n\r\n${ping}`,
  'ends a subscription after max':
    connect() + `SUB a 1\r\nUNSUB 1 2\r\n${'PUB a 1\r\nx\r\n'.repeat(3)}${ping}`,
  'ends it at once when max has come':
    connect() + `SUB a 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\nx\r\nUNSUB 1 2\r\nPUB a 1\r\ny\r\n${ping}`,
  'takes the last UNSUB':
    connect() + `SUB a 1\r\nUNSUB 1 1\r\nUNSUB 1 3\r\n${'PUB a 1\r\nx\r\n'.repeat(4)}${ping}`,
  'takes UNSUB with a max that is none':
    connect() + `SUB a 1\r\nUNSUB 1 x\r\nPUB a 1\r\nx\r\nUNSUB 99\r\n${ping}`,
  'takes UNSUB 0 for now': connect() + `SUB a 1\r\nUNSUB 1 0\r\nPUB a 1\r\nx\r\n${ping}`,
  'keeps the first subscription of a sid':
    connect() + `SUB a 1\r\nSUB b 1\r\nPUB a 0\r\n\r\nPUB b 0\r\n\r\n${ping}`,
  'gives a queue group each message once':
    connect() + `SUB a q 1\r\nUNSUB 1 1\r\nPUB a 0\r\n\r\nPUB a 0\r\n\r\n${ping}`,
  'keeps a subject in bytes':
    connect() + `SUB \xe9\xfc.* \xe9\r\nPUB \xe9\xfc.\xff 2\r\n\0\r\r\n${ping}`,
  'takes a payload of max_payload':
    connect() + `SUB a 1\r\nPUB a 1048576\r\n${'y'.repeat(1_048_576)}\r\n${ping}`,
};

const title = 'conat and nats-server say the same to the same bytes';

(missing === undefined ? describe : describe.skip)(
  `${title}${missing ? ` — ${missing}` : ''}`,
  () => {
    it.each(Object.entries(scripts))('%s', async (_, script) => {
      const [theirs, ours] = await Promise.all([
        play(ports()['nats-server'], script),
        play(ports().conat, script),
      ]);
      expect(ours).toEqual(theirs);
    });

    it('sends INFO with the same keys, and where the client has come in', async () => {
      const infos = await Promise.all(
        Object.values(ports()).map(async (port) => {
          const socket = await RawSocket.open(port);
          opened.push(socket);
          const text = await socket.heard('\r\n');
          return JSON.parse(text.slice('INFO '.length)) as Record<string, unknown>;
        }),
      );
      const [theirs, ours] = infos as [Record<string, unknown>, Record<string, unknown>];
      const known = Object.keys(theirs).filter((key) => !notOurs.has(key));
      expect(Object.keys(ours)).toEqual(expect.arrayContaining(known));
      for (const key of ['proto', 'headers', 'max_payload', 'auth_required', 'client_ip', 'host']) {
        expect({ [key]: ours[key] }).toEqual({ [key]: theirs[key] });
      }
      expect(ours['port']).toBe(ports().conat);
      expect(theirs['port']).toBe(ports()['nats-server']);
    });
  },
);

/** What nats-server tells of its own build. */
const notOurs = new Set(['git_commit', 'xkey', 'ip', 'cluster', 'domain', 'api_lvl']);
