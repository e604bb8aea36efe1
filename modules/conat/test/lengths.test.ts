import { crc32 } from 'node:zlib';
import { describe, expect, it } from '@jest/globals';
import { Broker } from '@rookery/conat';
import {
  AllowAllAuthenticator,
  MappedAuthenticator,
  bodyLengths,
  bodyOf,
  headersOf,
  subjectLengths,
  subjectOf,
  RawClient,
} from '@rookery/conat/testing';
import { Random } from '@rookery/core/testing';

const authenticators = {
  'a connection': () => new AllowAllAuthenticator(),
  'a rooted connection': () => new MappedAuthenticator({ root: 'space', id: 'p1' }),
};

describe.each(Object.entries(authenticators))('%s', (_, authenticator) => {
  it('sends each message where it says, whatever the subject before it', async () => {
    const broker = new Broker({ authenticator: authenticator() });
    const client = await RawClient.ready(broker);
    client.say('SUB > 1\r\n');
    const subjects = subjectLengths.flatMap((bytes) => [subjectOf(bytes), subjectOf(bytes, 'b')]);
    for (const one of subjects) {
      const said = subjects.flatMap((other) => [one, other, one]);
      client.say(said.map((subject, n) => `PUB ${subject} ${`${n}`.length}\r\n${n}\r\n`).join(''));
      const heard = (await client.answers()).matchAll(/MSG (\S+) 1 \d+\r\n(\d+)\r\n/g);
      const expected = said.map((subject, n) => `${subject} ${n}`);
      const found = [...heard].map(([, subject, payload]) => `${subject} ${payload}`);
      expect(found.map(shortened)).toEqual(expected.map(shortened));
    }
  });

  it('carries replies, headers and payloads of all lengths', async () => {
    const broker = new Broker({ authenticator: authenticator() });
    const [client, simple, exact] = [
      await RawClient.ready(broker),
      await RawClient.ready(broker, { headers: false, no_responders: false }),
      await RawClient.ready(broker),
    ];
    const random = Random.seeded();
    const watched = subjectOf(129, 'watched');
    client.say('SUB > 1\r\n');
    simple.say('SUB > 2\r\n');
    exact.say(`SUB ${watched} 3\r\n`);
    await exact.answers();
    for (let round = 0; round < 400; round += 1) {
      const subject = random.chance(0.3) ? watched : subjectOf(random.pick(subjectLengths));
      const reply = random.chance(0.5) ? ` ${subjectOf(random.pick(subjectLengths), 'r')}` : '';
      const headers = random.chance(0.5) ? headersOf(random.pick(bodyLengths)) : '';
      const payload = bodyOf(random.pick(bodyLengths), round);
      const whole = headers.length + payload.length;
      const sizes = headers === '' ? `${whole}` : `${headers.length} ${whole}`;
      const [verb, to] = headers === '' ? ['MSG', 'PUB'] : ['HMSG', 'HPUB'];
      const tail = `${reply} ${sizes}\r\n${headers}${payload}\r\n`;
      client.say(Buffer.from(`${to} ${subject}${tail}`, 'latin1'));
      const texts = [await client.answers(), await simple.answers(), await exact.answers()];
      expect(texts.map(shortened)).toEqual(
        [
          `${verb} ${subject} 1${tail}`,
          `MSG ${subject} 2${reply} ${payload.length}\r\n${payload}\r\n`,
          subject === watched ? `${verb} ${subject} 3${tail}` : '',
        ].map(shortened),
      );
    }
  });
});

/** What is long is shown by its ends and its checksum. */
function shortened(text: string): string {
  if (text.length < 200) return text;
  return `${text.slice(0, 90)}…${text.length}, ${crc32(text)}…${text.slice(-40)}`;
}
