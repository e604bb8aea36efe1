import { bodyLengths, bodyOf, headersOf, subjectLengths, subjectOf } from '@rookery/conat/testing';
import type { Random } from '@rookery/core/testing';

/** CONNECT options of the clients that take part: each differs in what it asks of the server. */
export const clientOptions = [
  { headers: true, no_responders: true },
  { headers: true, no_responders: true, echo: false },
  { headers: false, no_responders: false },
  { headers: true, no_responders: false, verbose: true },
  { headers: true, no_responders: true, pedantic: true },
].map((options) => ({ lang: 'test', version: '1', protocol: 1, ...options }));

const optionsOf = (client: number) => clientOptions[client]!;

/** Some bytes for one client to say at once, and what the comparison must know about them. */
export interface Step {
  readonly client: number;
  readonly action: 'say' | 'reconnect';
  readonly bytes: string;
  readonly cuts: readonly number[];
}

interface Known {
  readonly sid: string;
  readonly queue: string;
}

const tokens = ['a', 'b', 'c', 'aa', 'A', 'é'];
const longSubjects = subjectLengths.flatMap((bytes) => [
  subjectOf(bytes, 'a'),
  subjectOf(bytes, 'b.é'),
]);
/** Subject, reply subject and sizes; a longer line ends the connection. */
const lineBytesMax = 4_096 - ' 65537 131074'.length;
const strangeSubjects = ['a.*', 'a..b', '.a', 'a.', '>', 'a.>.b', '*', 'a*.b', 'a.b>'];

/** Makes random operations; it knows which subscriptions there are, so that most of them hit. */
export class Operations {
  private readonly subscriptions: Known[][] = clientOptions.map(() => []);
  private lastSid = 0;
  private lastPayload = 0;
  /** Queue of each queue subscription, by `<client>/<sid>`. */
  readonly queues = new Map<string, string>();

  constructor(private readonly random: Random) {}

  next(): Step {
    const { random } = this;
    const client = random.below(clientOptions.length);
    if (random.chance(0.02)) {
      this.subscriptions[client] = [];
      return { client, action: 'reconnect', bytes: '', cuts: [] };
    }
    let bytes = '';
    for (let left = random.chance(0.3) ? 1 + random.below(6) : 1; left > 0; left -= 1) {
      bytes += this.operation(client);
    }
    const cuts = random.chance(0.2)
      ? Array.from({ length: 3 }, () => random.below(bytes.length)).sort((a, b) => a - b)
      : [];
    return { client, action: 'say', bytes, cuts };
  }

  private operation(client: number): string {
    const many = this.subscriptions[client]!.length > 30;
    const kind = this.random.weighted({
      publish: 50,
      request: 12,
      subscribe: many ? 2 : 18,
      queue: many ? 2 : 10,
      limited: 6,
      unsubscribe: many ? 30 : 8,
      again: 2,
    });
    switch (kind) {
      case 'publish':
        return this.publish(client, '');
      case 'request':
        return this.publish(client, ` ${this.literal()}`);
      case 'subscribe':
        return this.subscribe(client, '');
      case 'queue':
        return this.subscribe(client, this.random.pick(['q1', 'q2', 'q3']));
      case 'limited':
        return this.limited(client);
      case 'unsubscribe':
        return this.unsubscribe(client);
      case 'again':
        return this.subscribe(client, '', this.random.pick(this.subscriptions[client]!)?.sid);
    }
  }

  private subscribe(client: number, queue: string, sid = String((this.lastSid += 1))): string {
    const known = this.subscriptions[client]!;
    // A second SUB of a known id may name a queue group too; the first one counts.
    if (!known.some((one) => one.sid === sid)) {
      known.push({ sid, queue });
      if (queue !== '') this.queues.set(`${client}/${sid}`, queue);
    }
    return `SUB ${this.filter()}${queue === '' ? '' : ` ${queue}`} ${sid}\r\n`;
  }

  /**
   * Ends after n messages, counted from the subscription's start. Not for members of a group: who
   * of them got how many is the server's choice, and then so is who has ended. The same for clients
   * that hear of missing responders: in which of their subscriptions, is the server's choice.
   */
  private limited(client: number): string {
    const plain = this.subscriptions[client]!.filter(({ queue }) => queue === '');
    const one = this.random.pick(plain);
    if (!one || optionsOf(client).no_responders) return this.subscribe(client, '');
    return `UNSUB ${one.sid} ${1 + this.random.below(8)}\r\n`;
  }

  private unsubscribe(client: number): string {
    const known = this.subscriptions[client]!;
    if (known.length === 0 || this.random.chance(0.05)) return 'UNSUB 999999\r\n';
    const [one] = known.splice(this.random.below(known.length), 1);
    return `UNSUB ${one!.sid}\r\n`;
  }

  private publish(client: number, asked: string): string {
    const { random } = this;
    const payload = this.payload();
    const subject = random.chance(0.02) ? random.pick(strangeSubjects) : this.literal();
    const reply = Buffer.byteLength(subject + asked) <= lineBytesMax ? asked : '';
    const size = Buffer.byteLength(payload);
    if (!optionsOf(client).headers || random.chance(0.7)) {
      return `PUB ${subject}${reply} ${size}\r\n${payload}\r\n`;
    }
    const headers = random.chance(0.8)
      ? `NATS/1.0\r\nK: ${random.below(9)}\r\nk:v \r\nK:  two\r\n\r\n`
      : headersOf(random.pick(bodyLengths));
    return `HPUB ${subject}${reply} ${headers.length} ${headers.length + size}\r\n${headers}${payload}\r\n`;
  }

  private payload(): string {
    this.lastPayload += 1;
    switch (this.random.weighted({ usual: 80, empty: 10, long: 10 })) {
      case 'usual':
        return `${this.lastPayload}\r\nMSG é`;
      case 'empty':
        return '';
      case 'long':
        return bodyOf(this.random.pick(bodyLengths), this.lastPayload);
    }
  }

  private literal(): string {
    // Mostly short, so that what is long comes between two that are the same.
    if (this.random.chance(0.15)) return this.random.pick(longSubjects);
    return Array.from({ length: 1 + this.random.below(4) }, () => this.random.pick(tokens)).join(
      '.',
    );
  }

  private filter(): string {
    const { random } = this;
    if (random.chance(0.02)) return random.pick(strangeSubjects);
    const parts = this.literal()
      .split('.')
      .map((token) => (random.chance(0.3) ? '*' : token));
    if (random.chance(0.2)) parts[parts.length - 1] = '>';
    return parts.join('.');
  }
}
