import type { JetStreamManager, StoredMsg, StreamConfig, StreamInfo } from '@nats-io/jetstream';
import { nanos } from '@nats-io/nats-core';
import { CoreErrors } from '@rookery/core';
import { Option, type Command } from 'commander';
import type { Cli, CommandModule } from '../cli.js';
import { usageError } from '../cli.errors.js';
import { brokerAction } from '../conat/action.js';
import { withBroker } from '../conat/broker-options.js';
import { storedText, storedView, streamText } from '../conat/stored-view.js';
import { counted, size } from '../output/format.js';
import { table } from '../output/table.js';
import { atLeastOne, bytes, duration } from '../parameters.js';
import { collect } from '../resolve.js';
import { existingGroup } from './groups.js';
import { examples } from './examples.js';

/** Streams of JetStream. */
export const conatStreamCommands: CommandModule = (program, cli) => {
  const stream = existingGroup(program, 'conat')
    .command('stream')
    .description('streams: messages that are kept (JetStream)');
  addList(stream, cli);
  addInfo(stream, cli);
  addAdd(stream, cli);
  addRemove(stream, cli);
  addPurge(stream, cli);
  addGet(stream, cli);
  addView(stream, cli);
};

function addList(stream: Command, cli: Cli): void {
  withBroker(stream.command('list').alias('ls'))
    .description('all streams')
    .addHelpText('after', examples('rookery conat stream ls -p shop'))
    .action(
      brokerAction(cli, async (_, session) => {
        const manager = await session.manager();
        const streams: StreamInfo[] = await collect(manager.streams.list());
        return {
          json: streams,
          text: table(
            ['NAME', 'SUBJECTS', 'MESSAGES', 'SIZE', 'CONSUMERS'],
            streams.map(({ config, state }) => [
              config.name,
              (config.subjects ?? []).join(', '),
              String(state.messages),
              size(state.bytes),
              String(state.consumer_count),
            ]),
          ),
        };
      }),
    );
}

function addInfo(stream: Command, cli: Cli): void {
  withBroker(stream.command('info').alias('show'))
    .description('settings and state of a stream')
    .argument('<stream>')
    .addHelpText('after', examples('rookery conat stream info ORDERS -p shop'))
    .action(
      brokerAction(cli, async (_, session, [name = '']) => {
        const info = await (await session.manager()).streams.info(name);
        return { json: info, text: streamText(info) };
      }),
    );
}

interface AddOptions {
  readonly subjects?: string;
  readonly description?: string;
  readonly storage: 'file' | 'memory';
  readonly retention: 'limits' | 'workqueue' | 'interest';
  readonly discard: 'old' | 'new';
  readonly maxMsgs?: number;
  readonly maxBytes?: number;
  readonly maxAge?: number;
  readonly maxMsgSize?: number;
  readonly maxPerSubject?: number;
  readonly duplicates?: number;
}

function addAdd(stream: Command, cli: Cli): void {
  withBroker(stream.command('add').alias('create'))
    .description('make a stream; with the same settings again, nothing happens')
    .argument('<stream>')
    .option('--subjects <list>', 'comma-separated; default: the stream’s name')
    .option('--description <text>')
    .addOption(new Option('--storage <kind>').choices(['file', 'memory']).default('file'))
    .addOption(
      new Option('--retention <policy>', 'what is kept')
        .choices(['limits', 'workqueue', 'interest'])
        .default('limits'),
    )
    .addOption(
      new Option('--discard <which>', 'when it is full').choices(['old', 'new']).default('old'),
    )
    .option('--max-msgs <number>', 'messages at most', atLeastOne)
    .option('--max-bytes <size>', 'bytes at most', bytes)
    .option('--max-age <time>', 'older messages go (30s, 5m, 2h, 7d)', duration)
    .option('--max-msg-size <size>', 'largest message', bytes)
    .option('--max-per-subject <number>', 'messages of each subject at most', atLeastOne)
    .option('--duplicates <time>', 'for how long message ids are remembered', duration)
    .addHelpText(
      'after',
      examples(
        'rookery conat stream add ORDERS --subjects "orders.>" --max-age 7d -p shop',
        'rookery conat stream add JOBS --subjects jobs --retention workqueue -p shop',
      ),
    )
    .action(
      brokerAction<AddOptions>(cli, async (_, session, [name = ''], options) => {
        const info = await (await session.manager()).streams.add(streamConfig(name, options));
        return { json: info, text: streamText(info) };
      }),
    );
}

function streamConfig(name: string, options: AddOptions): Partial<StreamConfig> & { name: string } {
  const { storage, retention, discard, subjects, description } = options;
  const { maxMsgs, maxBytes, maxAge, maxMsgSize, maxPerSubject, duplicates } = options;
  return {
    name,
    storage,
    retention,
    discard,
    subjects: subjects === undefined ? [name] : subjects.split(',').map((one) => one.trim()),
    ...(description !== undefined && { description }),
    ...(maxMsgs !== undefined && { max_msgs: maxMsgs }),
    ...(maxBytes !== undefined && { max_bytes: maxBytes }),
    ...(maxAge !== undefined && { max_age: nanos(maxAge) }),
    ...(maxMsgSize !== undefined && { max_msg_size: maxMsgSize }),
    ...(maxPerSubject !== undefined && { max_msgs_per_subject: maxPerSubject }),
    ...(duplicates !== undefined && { duplicate_window: nanos(duplicates) }),
    allow_direct: true,
  };
}

function addRemove(stream: Command, cli: Cli): void {
  withBroker(stream.command('delete').alias('rm'))
    .description('delete a stream with all it keeps')
    .argument('<stream>')
    .addHelpText('after', examples('rookery conat stream rm ORDERS --yes -p shop'))
    .action(
      brokerAction(cli, async (run, session, [name = '']) => {
        const manager = await session.manager();
        const { state } = await manager.streams.info(name);
        await run.confirm(
          `Delete the stream ${name} with ${counted(state.messages, 'message')}?`,
          session.target,
        );
        await manager.streams.delete(name);
        return { json: { stream: name, deleted: true }, text: `${name} is deleted` };
      }),
    );
}

interface PurgeOptions {
  readonly subject?: string;
  readonly before?: number;
  readonly keep?: number;
}

function addPurge(stream: Command, cli: Cli): void {
  withBroker(stream.command('purge'))
    .description('delete messages of a stream')
    .argument('<stream>')
    .option('--subject <subject>', 'only messages on it')
    .option('--before <seq>', 'only those before this sequence', atLeastOne)
    .option('--keep <number>', 'keep the last ones', atLeastOne)
    .addHelpText(
      'after',
      examples('rookery conat stream purge ORDERS --subject orders.test --yes -p shop'),
    )
    .action(
      brokerAction<PurgeOptions>(cli, async (run, session, [name = ''], options) => {
        const { subject: filter, before: seq, keep } = options;
        if (seq !== undefined && keep !== undefined) {
          throw usageError('--before and --keep exclude each other');
        }
        await run.confirm(`Delete messages of the stream ${name}?`, session.target);
        const manager = await session.manager();
        const { purged } = await manager.streams.purge(name, {
          ...(filter !== undefined && { filter }),
          ...(seq !== undefined && { seq }),
          ...(keep !== undefined && { keep }),
        } as Parameters<typeof manager.streams.purge>[1]);
        return { json: { stream: name, purged }, text: `${counted(purged, 'message')} deleted` };
      }),
    );
}

function addGet(stream: Command, cli: Cli): void {
  withBroker(stream.command('get'))
    .description('one message of a stream')
    .argument('<stream>')
    .argument('[seq]', 'its sequence', atLeastOne)
    .option('--last-for <subject>', 'the newest on this subject')
    .addHelpText(
      'after',
      examples(
        'rookery conat stream get ORDERS 17 -p shop',
        'rookery conat stream get ORDERS --last-for orders.new --json -p shop',
      ),
    )
    .action(
      brokerAction<{ lastFor?: string }>(
        cli,
        async (run, session, [name = '', at], { lastFor }) => {
          if ((at === undefined) === (lastFor === undefined)) {
            throw usageError('give a sequence or --last-for');
          }
          const manager = await session.manager();
          const query = lastFor === undefined ? { seq: Number(at) } : { last_by_subj: lastFor };
          const message = await manager.streams.getMessage(name, query);
          if (!message) {
            throw CoreErrors.NOT_FOUND({ what: 'message', id: lastFor ?? String(at) });
          }
          const text = storedText(message, run.io.stdout.isTTY === true).trimEnd();
          return { json: storedView(message), text };
        },
      ),
    );
}

interface ViewOptions {
  readonly from?: number;
  readonly count: number;
  readonly subject: string;
}

function addView(stream: Command, cli: Cli): void {
  withBroker(stream.command('view'))
    .description('messages of a stream, oldest first')
    .argument('<stream>')
    .option('--from <seq>', 'start at this sequence; default: the last ones', atLeastOne)
    .option('-n, --count <number>', 'so many', atLeastOne, 20)
    .option('--subject <subject>', 'only these; * and > allowed', '>')
    .addHelpText(
      'after',
      examples(
        'rookery conat stream view ORDERS -p shop',
        'rookery conat stream view ORDERS --from 1 --count 5 --subject "orders.*" --json -p shop',
      ),
    )
    .action(
      brokerAction<ViewOptions>(cli, async (run, session, [name = ''], options) => {
        const manager = await session.manager();
        const { state } = await manager.streams.info(name);
        const from = options.from ?? Math.max(1, state.last_seq - options.count + 1);
        const messages = await readFrom(manager, name, from, options);
        const isTerminal = run.io.stdout.isTTY === true;
        const text = messages.map((one) => storedText(one, isTerminal)).join('\n');
        return { json: messages.map(storedView), text: text.trimEnd() };
      }),
    );
}

async function readFrom(
  manager: JetStreamManager,
  stream: string,
  from: number,
  { count, subject }: ViewOptions,
): Promise<StoredMsg[]> {
  const messages: StoredMsg[] = [];
  for (let seq = from; messages.length < count; seq = messages.at(-1)!.seq + 1) {
    const query = { seq, next_by_subj: subject };
    const next = await manager.streams.getMessage(stream, query);
    if (!next) break;
    messages.push(next);
  }
  return messages;
}
