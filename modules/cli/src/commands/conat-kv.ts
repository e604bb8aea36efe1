import type { KV, KvEntry, KvStatus, KvWatchEntry } from '@nats-io/kv';
import { CoreErrors } from '@rookery/core';
import { Option, type Command } from 'commander';
import type { Cli, CommandModule } from '../cli.js';
import { usageError } from '../cli.errors.js';
import { brokerAction } from '../conat/action.js';
import { withBroker } from '../conat/broker-options.js';
import type { BrokerSession } from '../conat/broker-session.js';
import { LineOutput } from '../conat/line-output.js';
import { dataText, dataView, payloadOf } from '../conat/payloads.js';
import { relativeTime, size } from '../output/format.js';
import { table } from '../output/table.js';
import { atLeastOne, bytes, duration } from '../parameters.js';
import { collect } from '../resolve.js';
import { existingGroup } from './groups.js';
import { examples } from './examples.js';

/** Key-value buckets. */
export const conatKvCommands: CommandModule = (program, cli) => {
  const kv = existingGroup(program, 'conat')
    .command('kv')
    .description('key-value buckets: the last values, watched (JetStream)');
  addBuckets(kv, cli);
  addPut(kv, cli);
  addGet(kv, cli);
  addRemoving(kv, cli);
  addHistory(kv, cli);
  addWatch(kv, cli);
  addKeys(kv, cli);
};

interface AddOptions {
  readonly history: number;
  readonly ttl?: number;
  readonly maxBytes?: number;
  readonly maxValueSize?: number;
  readonly storage: 'file' | 'memory';
  readonly description?: string;
}

function addBuckets(kv: Command, cli: Cli): void {
  withBroker(kv.command('list').alias('ls'))
    .description('all buckets')
    .addHelpText('after', examples('rookery conat kv ls -p shop'))
    .action(
      brokerAction(cli, async (_, session) => {
        const all: KvStatus[] = await collect(session.buckets().list());
        return {
          json: all.map(bucketView),
          text: table(
            ['BUCKET', 'VALUES', 'SIZE', 'HISTORY'],
            all.map((one) => [one.bucket, String(one.values), size(one.size), String(one.history)]),
          ),
        };
      }),
    );
  withBroker(kv.command('add').alias('create'))
    .description('make a bucket')
    .argument('<bucket>')
    .option('--history <number>', 'values kept of each key (to 64)', atLeastOne, 1)
    .option('--ttl <time>', 'values go after so long (30s, 5m, 2h, 7d)', duration)
    .option('--max-bytes <size>', 'bytes at most', bytes)
    .option('--max-value-size <size>', 'largest value', bytes)
    .addOption(new Option('--storage <kind>').choices(['file', 'memory']).default('file'))
    .option('--description <text>')
    .addHelpText('after', examples('rookery conat kv add settings --history 5 -p shop'))
    .action(
      brokerAction<AddOptions>(cli, async (_, session, [name = ''], options) => {
        const { history, ttl, maxBytes, maxValueSize, storage, description } = options;
        const bucket = await session.buckets().create(name, {
          history,
          storage,
          ...(ttl !== undefined && { ttl }),
          ...(maxBytes !== undefined && { max_bytes: maxBytes }),
          ...(maxValueSize !== undefined && { maxValueSize }),
          ...(description !== undefined && { description }),
        });
        return { json: bucketView(await bucket.status()), text: `${name} is there` };
      }),
    );
  withBroker(kv.command('delete-bucket').alias('rm'))
    .description('delete a bucket with all its keys')
    .argument('<bucket>')
    .addHelpText('after', examples('rookery conat kv rm settings --yes -p shop'))
    .action(
      brokerAction(cli, async (run, session, [name = '']) => {
        const bucket = await open(session, name);
        await run.confirm(`Delete the bucket ${name} with all its keys?`, session.target);
        await bucket.destroy();
        return { json: { bucket: name, deleted: true }, text: `${name} is deleted` };
      }),
    );
}

const bucketView = (status: KvStatus): Record<string, unknown> => ({
  bucket: status.bucket,
  description: status.description,
  values: status.values,
  bytes: status.size,
  history: status.history,
  ttlMs: status.ttl,
  storage: status.storage,
});

/** A bucket that is there. @throws JETSTREAM_REFUSED */
async function open(session: BrokerSession, name: string): Promise<KV> {
  const bucket = await session.buckets().open(name);
  await bucket.status();
  return bucket;
}

interface PutOptions {
  readonly create?: boolean;
  readonly revision?: number;
}

function addPut(kv: Command, cli: Cli): void {
  withBroker(kv.command('put'))
    .description('set a value; prints its revision')
    .argument('<bucket>')
    .argument('<key>')
    .argument('<value>', '- reads it from stdin')
    .option('--create', 'only when the key is not there')
    .option('--revision <number>', 'only when this is the key’s revision', atLeastOne)
    .addHelpText(
      'after',
      examples(
        'rookery conat kv put settings color green -p shop',
        'rookery conat kv put settings color blue --revision 1 -p shop',
        'rookery conat kv put settings logo - < logo.png -p shop',
      ),
    )
    .action(
      brokerAction<PutOptions>(cli, async (run, session, [name = '', key = '', given], options) => {
        const { create, revision: previous } = options;
        if (create && previous !== undefined) {
          throw usageError('--create and --revision exclude each other');
        }
        const value = await payloadOf(given, run.io);
        const bucket = await open(session, name);
        const revision = await (create
          ? bucket.create(key, value)
          : previous === undefined
            ? bucket.put(key, value)
            : bucket.update(key, value, previous));
        return { json: { bucket: name, key, revision }, text: String(revision) };
      }),
    );
}

interface GetOptions {
  readonly revision?: number;
  readonly raw?: boolean;
}

function addGet(kv: Command, cli: Cli): void {
  withBroker(kv.command('get'))
    .description('the value of a key')
    .argument('<bucket>')
    .argument('<key>')
    .option('--revision <number>', 'as it was then', atLeastOne)
    .option('--raw', 'the bytes, without a line break behind them')
    .addHelpText(
      'after',
      examples(
        'rookery conat kv get settings color -p shop',
        'rookery conat kv get settings logo --raw -p shop > logo.png',
      ),
    )
    .action(
      brokerAction<GetOptions>(cli, async (run, session, [name = '', key = ''], options) => {
        const { revision, raw } = options;
        const bucket = await open(session, name);
        const entry = await bucket.get(key, revision === undefined ? undefined : { revision });
        if (entry?.operation !== 'PUT') throw CoreErrors.NOT_FOUND({ what: 'key', id: key });
        if (raw && !run.json) {
          await new LineOutput(run).say(null, entry.value);
          return { json: null, silent: true };
        }
        return {
          json: entryView(entry),
          text: dataText(entry.value, run.io.stdout.isTTY === true),
        };
      }),
    );
}

function addRemoving(kv: Command, cli: Cli): void {
  const remove = (verb: 'del' | 'purge', about: string): Command =>
    withBroker(kv.command(verb))
      .description(about)
      .argument('<bucket>')
      .argument('<key>')
      .addHelpText('after', examples(`rookery conat kv ${verb} settings color -p shop`))
      .action(
        brokerAction(cli, async (_, session, [name = '', key = '']) => {
          const bucket = await open(session, name);
          await (verb === 'del' ? bucket.delete(key) : bucket.purge(key));
          const json = { bucket: name, key, operation: verb === 'del' ? 'DEL' : 'PURGE' };
          return { json, text: `${key} is deleted` };
        }),
      );
  remove('del', 'delete a key; its history stays');
  remove('purge', 'delete a key and its history');
}

function addHistory(kv: Command, cli: Cli): void {
  withBroker(kv.command('history'))
    .description('the values of a key that are kept, oldest first')
    .argument('<bucket>')
    .argument('[key]', 'default: all keys', '>')
    .addHelpText('after', examples('rookery conat kv history settings color -p shop'))
    .action(
      brokerAction(cli, async (run, session, [name = '', key = '']) => {
        const bucket = await open(session, name);
        const all: KvEntry[] = await collect(await bucket.history({ key }));
        const isTerminal = run.io.stdout.isTTY === true;
        return {
          json: all.map(entryView),
          text: table(
            ['REVISION', 'WHEN', 'OPERATION', 'KEY', 'VALUE'],
            all.map((one) => [
              String(one.revision),
              relativeTime(one.created.toISOString()),
              one.operation,
              one.key,
              dataText(one.value, isTerminal),
            ]),
          ),
        };
      }),
    );
}

interface WatchOptions {
  readonly updatesOnly?: boolean;
  readonly history?: boolean;
  readonly ignoreDeletes?: boolean;
  readonly count?: number;
}

function addWatch(kv: Command, cli: Cli): void {
  withBroker(kv.command('watch'))
    .description('values as they are and as they change, until Ctrl-C')
    .argument('<bucket>')
    .argument('[key...]', 'only these; * and > allowed')
    .option('--updates-only', 'not what is there already')
    .option('--history', 'begin with everything that is kept')
    .option('--ignore-deletes', 'only values')
    .option('-n, --count <number>', 'end after so many', atLeastOne)
    .addHelpText(
      'after',
      `
With --json each value is one document on a line of its own.
${examples(
  'rookery conat kv watch settings -p shop',
  'rookery conat kv watch settings "user.*" --updates-only --json -p shop',
)}`,
    )
    .action(
      brokerAction<WatchOptions>(
        cli,
        async (run, session, [name = '', ...keys], options) => {
          if (options.history && options.updatesOnly) {
            throw usageError('--history and --updates-only exclude each other');
          }
          const bucket = await open(session, name);
          const watch = await bucket.watch({
            ...(keys.length > 0 && { key: keys as string[] }),
            include: options.history ? 'history' : options.updatesOnly ? 'updates' : '',
            ...(options.ignoreDeletes && { ignoreDeletes: true }),
          });
          const stop = (): void => watch.stop();
          run.signal.addEventListener('abort', stop, { once: true });
          if (run.signal.aborted) stop();
          run.progress.step(`watching ${name}`);
          const output = new LineOutput(run);
          let seen = 0;
          for await (const entry of watch) {
            seen += 1;
            const json = { ...entryView(entry), isUpdate: entry.isUpdate };
            const more = await output.say(json, `${watchText(entry, output.isTerminal)}\n`);
            if (!more || seen === options.count) break;
          }
          run.signal.removeEventListener('abort', stop);
          stop();
          return { json: null, silent: true };
        },
        { listens: true },
      ),
    );
}

function addKeys(kv: Command, cli: Cli): void {
  withBroker(kv.command('keys'))
    .description('the keys of a bucket')
    .argument('<bucket>')
    .argument('[filter]', '* and > allowed', '>')
    .addHelpText('after', examples('rookery conat kv keys settings "user.*" -p shop'))
    .action(
      brokerAction(cli, async (_, session, [name = '', filter = '']) => {
        const bucket = await open(session, name);
        const keys: string[] = (await collect(await bucket.keys(filter))).sort();
        return { json: keys, text: keys.join('\n') };
      }),
    );
}

function entryView(entry: KvEntry): Record<string, unknown> {
  const { bucket, key, revision, operation, created } = entry;
  const { data: value, encoding } = dataView(entry.value);
  return {
    bucket,
    key,
    revision,
    operation,
    created: created.toISOString(),
    value,
    ...(encoding && { encoding }),
  };
}

function watchText(entry: KvWatchEntry, isTerminal: boolean): string {
  const { key, revision, operation } = entry;
  const what = operation === 'PUT' ? dataText(entry.value, isTerminal) : `(${operation})`;
  return `[${revision}] ${key}: ${what}`;
}
