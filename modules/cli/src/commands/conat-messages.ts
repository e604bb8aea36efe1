import { createInterface } from 'node:readline';
import { errors, type Msg } from '@nats-io/nats-core';
import { RpcErrors } from '@rookery/rpc';
import type { Command } from 'commander';
import type { Cli, CommandModule } from '../cli.js';
import { CliErrors, usageError } from '../cli.errors.js';
import { brokerAction } from '../conat/action.js';
import { withBroker } from '../conat/broker-options.js';
import type { BrokerSession } from '../conat/broker-session.js';
import { LineOutput } from '../conat/line-output.js';
import {
  dataText,
  dataView,
  header,
  headersOf,
  headersView,
  payloadOf,
} from '../conat/payloads.js';
import { atLeastOne, positive } from '../parameters.js';
import type { CommandResult, CommandRun } from '../run.js';
import { existingGroup } from './groups.js';
import { examples } from './examples.js';

type Headers = readonly (readonly [string, string])[];

interface PubOptions {
  readonly header?: Headers;
  readonly reply?: string;
  readonly count: number;
  readonly lines?: boolean;
  readonly ack?: boolean;
  readonly id?: string;
}

/** Messages themselves: publish, listen, ask, answer. */
export const conatMessageCommands: CommandModule = (program, cli) => {
  const conat = existingGroup(program, 'conat');
  addPub(conat, cli);
  addSub(conat, cli);
  addReq(conat, cli);
  addReply(conat, cli);
};

function addPub(conat: Command, cli: Cli): void {
  withBroker(conat.command('pub'))
    .description('publish messages')
    .argument('<subject>')
    .argument('[payload]', '- reads it from stdin', '')
    .option('-H, --header <line>', '"Name: value"; repeatable', header)
    .option('--reply <subject>', 'where answers shall go')
    .option('--count <number>', 'publish it so many times', atLeastOne, 1)
    .option('--lines', 'each line of stdin is a message')
    .option('--ack', 'wait until a stream has stored it (JetStream); says its sequence')
    .option('--id <id>', 'with --ack: message id; a stream takes the same id once')
    .addHelpText(
      'after',
      examples(
        'rookery conat pub orders.new "a dozen eggs" -p shop',
        'rookery conat pub orders.new --ack --id order-17 "a dozen eggs" -p shop',
        'tail -f app.log | rookery conat pub logs.app --lines --server nats://127.0.0.1:4222',
      ),
    )
    .action(
      brokerAction<PubOptions>(cli, async (run, session, [subject = '', payload], options) => {
        if (options.id !== undefined && !options.ack) throw usageError('--id needs --ack');
        if (options.ack && options.reply !== undefined) {
          throw usageError('--ack and --reply exclude each other');
        }
        const sent = await publishAll(run, session, subject, payload, options);
        const refused = await session.flush();
        if (refused !== undefined) {
          const shown = session.space.shown(refused);
          throw CliErrors.CONAT_FORBIDDEN({ what: 'publish to', subject: shown });
        }
        const { messages, bytes, acks } = sent;
        return {
          json: { subject, messages, bytes, ...(options.ack && { acks }) },
          text: acks.length > 0 ? acks.map(ackText).join('\n') : `${messages} published`,
        };
      }),
    );
}

interface Ack {
  readonly stream: string;
  readonly seq: number;
  readonly duplicate: boolean;
}
const ackText = ({ stream, seq, duplicate }: Ack): string =>
  `${stream} ${seq}${duplicate ? ' (was there already)' : ''}`;

/** Acknowledgements are printed one by one up to here. */
const acksShownMax = 1_000;

async function publishAll(
  run: CommandRun,
  session: BrokerSession,
  subject: string,
  given: string | undefined,
  options: PubOptions,
): Promise<{ messages: number; bytes: number; acks: Ack[] }> {
  const { nats, space } = session;
  const headers = headersOf(options.header);
  const { reply } = options;
  const js = options.ack ? session.jetStream() : null;
  const sum = { messages: 0, bytes: 0, acks: [] as Ack[] };
  const to = space.toBroker(subject);
  const one = async (payload: Uint8Array): Promise<void> => {
    if (js) {
      const { id: msgID } = options;
      const ack = await js.publish(to, payload, {
        ...(headers && { headers }),
        ...(msgID && { msgID }),
      });
      const { stream, seq, duplicate } = ack;
      if (sum.acks.length < acksShownMax) sum.acks.push({ stream, seq, duplicate });
    } else {
      nats.publish(to, payload, {
        ...(headers && { headers }),
        ...(reply !== undefined && { reply: space.toBroker(reply) }),
      });
      // What is published faster than the connection takes it must not pile up here.
      if (sum.messages % 1_000 === 999) await nats.flush();
    }
    sum.messages += 1;
    sum.bytes += payload.length;
  };
  if (options.lines) {
    if (given !== '' && given !== undefined) throw usageError('--lines takes no payload');
    const lines = createInterface({ input: run.io.stdin, crlfDelay: Infinity });
    for await (const line of lines) {
      for (let i = 0; i < options.count; i += 1) await one(Buffer.from(line));
      if (!js) await nats.flush();
      if (run.signal.aborted) break;
    }
  } else {
    const payload = await payloadOf(given, run.io);
    for (let i = 0; i < options.count && !run.signal.aborted; i += 1) await one(payload);
  }
  return sum;
}

interface SubOptions {
  readonly queue?: string;
  readonly count?: number;
  readonly raw?: boolean;
}

function addSub(conat: Command, cli: Cli): void {
  withBroker(conat.command('sub'))
    .description('show messages as they come, until Ctrl-C')
    .argument('<subject...>', '* is one word, > the rest')
    .option('-q, --queue <name>', 'share the messages with the other members')
    .option('-n, --count <number>', 'end after so many', atLeastOne)
    .option('--raw', 'payloads alone, one a line')
    .addHelpText(
      'after',
      `
With --json each message is one document on a line of its own.
${examples(
  'rookery conat sub "orders.>" -p shop',
  'rookery conat sub ">" --server ws://127.0.0.1:4280/conat --json | jq .data',
  'rookery conat sub jobs --queue workers --count 1 --raw -p shop',
)}`,
    )
    .action(
      brokerAction<SubOptions>(
        cli,
        async (run, session, subjects, { queue, count, raw }) => {
          const output = new LineOutput(run);
          let heard = 0;
          await listen(run, session, subjects as string[], queue, async (message) => {
            heard += 1;
            const more = await output.say(
              messageView(session, message),
              raw ? rawLine(message.data) : messageText(session, message, heard, output.isTerminal),
            );
            return more && heard !== count;
          });
          return { json: null, silent: true };
        },
        { listens: true },
      ),
    );
}

/** Hands messages over one after the other, until `take` says no or somebody says stop. */
async function listen(
  run: CommandRun,
  session: BrokerSession,
  subjects: readonly string[],
  queue: string | undefined,
  take: (message: Msg) => Promise<boolean>,
): Promise<void> {
  const { nats, space } = session;
  const subscriptions = subjects.map((subject) =>
    nats.subscribe(space.toBroker(subject), { ...(queue !== undefined && { queue }) }),
  );
  const stop = (): void => {
    for (const one of subscriptions) one.unsubscribe();
  };
  run.signal.addEventListener('abort', stop, { once: true });
  if (run.signal.aborted) stop();
  try {
    if (!run.signal.aborted) {
      await nats.flush();
      run.progress.step(`listening to ${subjects.join(', ')}`);
    }
    await Promise.all(
      subscriptions.map(async (one) => {
        for await (const message of one) if (!(await take(message))) stop();
      }),
    );
  } finally {
    run.signal.removeEventListener('abort', stop);
    stop();
  }
}

interface ReqOptions {
  readonly header?: Headers;
  readonly timeout: number;
  readonly replies?: number;
  readonly raw?: boolean;
}

function addReq(conat: Command, cli: Cli): void {
  withBroker(conat.command('req'))
    .alias('request')
    .description('ask, and show the answer')
    .argument('<subject>')
    .argument('[payload]', '- reads it from stdin', '')
    .option('-H, --header <line>', '"Name: value"; repeatable', header)
    .option('-t, --timeout <seconds>', 'how long to wait', positive, 5)
    .option('--replies <number>', 'take so many answers, or what comes in time', atLeastOne)
    .option('--raw', 'payloads alone')
    .addHelpText(
      'after',
      examples(
        'rookery conat req greet crow -p shop',
        "rookery conat req '$SRV.PING' --replies 10 --timeout 1 --server nats://127.0.0.1:4222",
      ),
    )
    .action(
      brokerAction<ReqOptions>(cli, async (run, session, [subject = '', given], options) => {
        const payload = await payloadOf(given, run.io);
        const answers = await ask(session, subject, payload, options);
        const views = answers.map((answer) => messageView(session, answer));
        if (!run.json && options.raw) {
          for (const { data } of answers) await new LineOutput(run).say(null, rawLine(data));
          return { json: null, silent: true };
        }
        const isTerminal = run.io.stdout.isTTY === true;
        return {
          json: options.replies === undefined ? views[0] : views,
          text: answers
            .map((answer, i) => messageText(session, answer, i + 1, isTerminal).trimEnd())
            .join('\n\n'),
        };
      }),
    );
}

/** @throws SERVICE_UNAVAILABLE, SERVICE_TIMEOUT */
async function ask(
  session: BrokerSession,
  subject: string,
  payload: Uint8Array,
  options: ReqOptions,
): Promise<Msg[]> {
  const { nats, space } = session;
  const headers = headersOf(options.header);
  const timeoutMs = options.timeout * 1_000;
  const to = space.toBroker(subject);
  const timedOut = (cause?: unknown): Error =>
    RpcErrors.SERVICE_TIMEOUT({ subject, timeoutMs }, { cause });
  if (options.replies === undefined) {
    try {
      return [await nats.request(to, payload, { timeout: timeoutMs, ...(headers && { headers }) })];
    } catch (error) {
      const [one, cause] = [error, (error as Error).cause];
      if ([one, cause].some((each) => each instanceof errors.TimeoutError)) throw timedOut(error);
      throw error;
    }
  }
  const answers: Msg[] = [];
  const all = await nats.requestMany(to, payload, {
    strategy: 'count',
    maxMessages: options.replies,
    maxWait: timeoutMs,
    ...(headers && { headers }),
  });
  for await (const answer of all) answers.push(answer);
  if (answers.length === 0) throw timedOut();
  return answers;
}

interface ReplyOptions {
  readonly queue?: string;
  readonly count?: number;
  readonly echo?: boolean;
}

function addReply(conat: Command, cli: Cli): void {
  withBroker(conat.command('reply'))
    .description('answer requests, until Ctrl-C')
    .argument('<subject>')
    .argument('[payload]', 'the answer; - reads it from stdin', '')
    .option('--echo', 'answer with what was asked')
    .option('-q, --queue <name>', 'share the requests with the other members')
    .option('-n, --count <number>', 'end after so many', atLeastOne)
    .addHelpText(
      'after',
      `
With --json each request is one document on a line of its own.
${examples(
  'rookery conat reply greet "Hello." -p shop',
  'rookery conat reply echo --echo --queue q --server ws://127.0.0.1:4280/conat',
)}`,
    )
    .action(
      brokerAction<ReplyOptions>(
        cli,
        async (
          run,
          session,
          [subject = '', given],
          { queue, count, echo },
        ): Promise<CommandResult> => {
          if (echo && given) throw usageError('give an answer or --echo');
          const answer = await payloadOf(given, run.io);
          const output = new LineOutput(run);
          let heard = 0;
          await listen(run, session, [subject], queue, async (message) => {
            heard += 1;
            message.respond(echo ? message.data : answer);
            const text = messageText(session, message, heard, output.isTerminal);
            await output.say(messageView(session, message), text);
            return heard !== count;
          });
          return { json: null, silent: true };
        },
        { listens: true },
      ),
    );
}

const rawLine = (data: Uint8Array): Uint8Array => Buffer.concat([data, Buffer.from('\n')]);

function messageView({ space }: BrokerSession, message: Msg): Record<string, unknown> {
  const headers = headersView(message.headers);
  return {
    subject: space.shown(message.subject),
    ...(message.reply !== undefined && message.reply !== '' && { reply: message.reply }),
    ...(headers && { headers }),
    ...dataView(message.data),
  };
}

function messageText(
  { space }: BrokerSession,
  message: Msg,
  number: number,
  isTerminal: boolean,
): string {
  const headers = Object.entries(headersView(message.headers) ?? {});
  const lines = headers.flatMap(([name, values]) => values.map((value) => `${name}: ${value}\n`));
  const reply = message.reply ? ` (answer to ${message.reply})` : '';
  const head = `[${number}] ${space.shown(message.subject)}${reply}\n${lines.join('')}`;
  return `${head}${dataText(message.data, isTerminal)}\n\n`;
}
