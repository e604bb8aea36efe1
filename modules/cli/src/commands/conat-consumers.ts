import type { ConsumerInfo, JsMsg } from '@nats-io/jetstream';
import { nanos } from '@nats-io/nats-core';
import { Option, type Command } from 'commander';
import type { Cli, CommandModule } from '../cli.js';
import { brokerAction } from '../conat/action.js';
import { withBroker } from '../conat/broker-options.js';
import { dataText, dataView, headersView } from '../conat/payloads.js';
import { span } from '../conat/stored-view.js';
import { fields, table } from '../output/table.js';
import { atLeastOne, duration, positive } from '../parameters.js';
import { collect } from '../resolve.js';
import { existingGroup } from './groups.js';
import { examples } from './examples.js';

/** Consumers of streams: who has read how far. */
export const conatConsumerCommands: CommandModule = (program, cli) => {
  const consumer = existingGroup(program, 'conat')
    .command('consumer')
    .description('consumers of a stream: who has read how far');
  addLooking(consumer, cli);
  addAdd(consumer, cli);
  addNext(consumer, cli);
  withBroker(consumer.command('delete').alias('rm'))
    .description('delete a consumer and its position')
    .argument('<stream>')
    .argument('<consumer>')
    .addHelpText('after', examples('rookery conat consumer rm ORDERS packers --yes -p shop'))
    .action(
      brokerAction(cli, async (run, session, [stream = '', name = '']) => {
        await run.confirm(`Delete the consumer ${name} of ${stream}?`, session.target);
        await (await session.manager()).consumers.delete(stream, name);
        return { json: { stream, consumer: name, deleted: true }, text: `${name} is deleted` };
      }),
    );
};

function addLooking(consumer: Command, cli: Cli): void {
  withBroker(consumer.command('list').alias('ls'))
    .description('all consumers of a stream')
    .argument('<stream>')
    .addHelpText('after', examples('rookery conat consumer ls ORDERS -p shop'))
    .action(
      brokerAction(cli, async (_, session, [stream = '']) => {
        const manager = await session.manager();
        const all: ConsumerInfo[] = await collect(manager.consumers.list(stream));
        return {
          json: all,
          text: table(
            ['NAME', 'WAITING', 'UNACKNOWLEDGED', 'REDELIVERED'],
            all.map((one) => [
              one.name,
              String(one.num_pending),
              String(one.num_ack_pending),
              String(one.num_redelivered),
            ]),
          ),
        };
      }),
    );
  withBroker(consumer.command('info').alias('show'))
    .description('settings and position of a consumer')
    .argument('<stream>')
    .argument('<consumer>')
    .addHelpText('after', examples('rookery conat consumer info ORDERS packers -p shop'))
    .action(
      brokerAction(cli, async (_, session, [stream = '', name = '']) => {
        const info = await (await session.manager()).consumers.info(stream, name);
        return { json: info, text: consumerText(info) };
      }),
    );
}

function consumerText(info: ConsumerInfo): string {
  const { config } = info;
  const filters = config.filter_subjects ?? (config.filter_subject ? [config.filter_subject] : []);
  return fields({
    Consumer: info.name,
    Stream: info.stream_name,
    Subjects: filters.length > 0 ? filters.join(', ') : 'all',
    Starts: config.deliver_policy,
    Acknowledge: `${config.ack_policy}, within ${span(config.ack_wait ?? 0)}`,
    Delivered: `up to ${info.delivered.stream_seq}`,
    Acknowledged: `up to ${info.ack_floor.stream_seq}`,
    Unacknowledged: String(info.num_ack_pending),
    Redelivered: String(info.num_redelivered),
    Waiting: String(info.num_pending),
  });
}

interface AddOptions {
  readonly filter?: string;
  readonly deliver: 'all' | 'new' | 'last' | 'last_per_subject';
  readonly ack: 'explicit' | 'all' | 'none';
  readonly ackWait?: number;
  readonly maxDeliver?: number;
}

function addAdd(consumer: Command, cli: Cli): void {
  withBroker(consumer.command('add').alias('create'))
    .description('make a durable pull consumer')
    .argument('<stream>')
    .argument('<consumer>')
    .option('--filter <list>', 'only these subjects, comma-separated')
    .addOption(
      new Option('--deliver <policy>', 'where it begins')
        .choices(['all', 'new', 'last', 'last_per_subject'])
        .default('all'),
    )
    .addOption(
      new Option('--ack <policy>').choices(['explicit', 'all', 'none']).default('explicit'),
    )
    .option('--ack-wait <time>', 'redeliver after so long (30s, 5m)', duration)
    .option('--max-deliver <number>', 'deliver a message so many times', atLeastOne)
    .addHelpText(
      'after',
      examples('rookery conat consumer add ORDERS packers --filter "orders.new" -p shop'),
    )
    .action(
      brokerAction<AddOptions>(cli, async (_, session, [stream = '', name = ''], options) => {
        const { filter, deliver, ack, ackWait, maxDeliver } = options;
        const info = await (
          await session.manager()
        ).consumers.add(stream, {
          durable_name: name,
          deliver_policy: deliver,
          ack_policy: ack,
          ...(filter !== undefined && {
            filter_subjects: filter.split(',').map((one) => one.trim()),
          }),
          ...(ackWait !== undefined && { ack_wait: nanos(ackWait) }),
          ...(maxDeliver !== undefined && { max_deliver: maxDeliver }),
        });
        return { json: info, text: consumerText(info) };
      }),
    );
}

interface NextOptions {
  readonly count: number;
  readonly timeout: number;
  readonly ack: boolean;
}

function addNext(consumer: Command, cli: Cli): void {
  withBroker(consumer.command('next'))
    .description('take the next messages and acknowledge them')
    .argument('<stream>')
    .argument('<consumer>')
    .option('-n, --count <number>', 'at most so many', atLeastOne, 1)
    .option('-t, --timeout <seconds>', 'how long to wait for them', positive, 5)
    .option('--no-ack', 'do not acknowledge: they come again')
    .addHelpText(
      'after',
      `
When nothing came in time, nothing is printed and the exit status is 0.
${examples(
  'rookery conat consumer next ORDERS packers --count 10 -p shop',
  'rookery conat consumer next ORDERS packers --no-ack --json -p shop',
)}`,
    )
    .action(
      brokerAction<NextOptions>(cli, async (run, session, [stream = '', name = ''], options) => {
        const taken = await session.jetStream().consumers.get(stream, name);
        const expires = Math.max(1_000, options.timeout * 1_000);
        const messages: JsMsg[] = [];
        for await (const message of await taken.fetch({ max_messages: options.count, expires })) {
          messages.push(message);
          // Known to be acknowledged before anybody is told of it.
          if (options.ack) await message.ackAck();
        }
        const isTerminal = run.io.stdout.isTTY === true;
        return {
          json: messages.map((one) => deliveredView(session.space.shown(one.subject), one)),
          text: messages
            .map((one) => {
              const { seq, redelivered, subject, data } = one;
              const again = redelivered ? ' (again)' : '';
              const head = `[${seq}] ${session.space.shown(subject)}${again}`;
              return `${head}\n${dataText(data, isTerminal)}`;
            })
            .join('\n\n'),
        };
      }),
    );
}

function deliveredView(subject: string, message: JsMsg): Record<string, unknown> {
  const headers = headersView(message.headers);
  const { info } = message;
  return {
    subject,
    stream: info.stream,
    seq: info.streamSequence,
    deliveries: info.deliveryCount,
    pending: info.pending,
    time: message.time.toISOString(),
    ...(headers && { headers }),
    ...dataView(message.data),
  };
}
