import { Option } from 'commander';
import { OperationView } from '@rookery/api';
import { hasEnded, successOf } from '@rookery/client';
import { follow } from '../follow.js';
import { relativeTime, shortId } from '../output/format.js';
import { describeOperation } from '../output/progress.js';
import { fields, table } from '../output/table.js';
import { atLeastOne } from '../parameters.js';
import type { CommandModule } from '../cli.js';
import { collect, findOperation, findProject } from '../resolve.js';
import { examples } from './examples.js';

interface ListOptions {
  readonly project?: string;
  readonly state?: OperationView['state'];
  readonly limit: number;
}

const resolveHelp = `
"op show" says who an operation waits for, and since when. Ending it does not wait for that one:
  failed  what it did is undone as far as the hub can; a move goes back to its source
  done    what it did stands; refused where the hub cannot know that
What hosts still have to do for it they are told when they answer; it is listed as "Leaves".
`;

/** Long work: looking at it, waiting for it, stopping it. */
export const operationCommands: CommandModule = (program, cli) => {
  const op = program.command('op').alias('operation').description('long work');

  op.command('list')
    .alias('ls')
    .description('operations, newest first')
    .option('--project <project>', 'only those of this project')
    .addOption(
      new Option('--state <state>', 'only those in this state').choices(
        OperationView.shape.state.options,
      ),
    )
    .option('--limit <number>', 'at most this many', atLeastOne, 50)
    .addHelpText('after', examples('rookery op list --project hello --state failed'))
    .action(
      cli.action<ListOptions>(async (run, _, { project, state, limit }) => {
        const client = await run.client();
        const pages = client.each('listOperations', {
          limit: Math.min(limit, 500),
          ...(project !== undefined && { projectId: (await findProject(client, project)).id }),
          ...(state !== undefined && { state }),
        });
        const found = await collect(firstOf(pages, limit));
        return { json: found, text: operationTable(found) };
      }),
    );

  op.command('show')
    .description('one operation')
    .argument('<operation>', 'id, or its beginning')
    .addHelpText('after', examples('rookery op show 4f2a91c0'))
    .action(
      cli.action(async (run, [id = '']) => {
        const found = await findOperation(await run.client(), id);
        return { json: found, text: operationFields(found) };
      }),
    );

  op.command('wait')
    .description('follow an operation to its end; fails when it fails')
    .argument('<operation>')
    .addHelpText('after', examples('rookery op wait 4f2a91c0'))
    .action(
      cli.action(async (run, [id = '']) => {
        const client = await run.client();
        const found = await findOperation(client, id);
        const ended = hasEnded(found) ? successOf(found) : await follow(run, client, found);
        return { json: ended, text: operationFields(ended) };
      }),
    );

  op.command('cancel')
    .description('ask an operation to stop and undo what it did')
    .argument('<operation>')
    .addHelpText('after', examples('rookery op cancel 4f2a91c0'))
    .action(
      cli.action(async (run, [id = '']) => {
        const client = await run.client();
        const found = await findOperation(client, id);
        const asked = await client.cancelOperation({ operationId: found.id });
        return { json: asked, text: describeOperation(asked) };
      }),
    );

  op.command('retry')
    .description('let an operation that is stuck go on at once')
    .argument('<operation>')
    .addHelpText('after', examples('rookery op retry 4f2a91c0'))
    .action(
      cli.action(async (run, [id = '']) => {
        const client = await run.client();
        const found = await findOperation(client, id);
        const asked = await client.retryOperation({ operationId: found.id });
        return { json: asked, text: describeOperation(asked) };
      }),
    );

  op.command('resolve')
    .description('end an operation by hand, whoever it waits for (administrators)')
    .argument('<operation>')
    .addOption(
      new Option('--as <ending>', 'what it shall count as')
        .choices(['failed', 'done'])
        .makeOptionMandatory(),
    )
    .addHelpText('after', resolveHelp + examples('rookery op resolve 4f2a91c0 --as failed'))
    .action(
      cli.action<{ as: 'failed' | 'done' }>(async (run, [id = ''], options) => {
        const client = await run.client();
        const found = await findOperation(client, id);
        await run.confirm(`End ${found.kind} ${found.id} (${found.state}) as ${options.as}?`);
        const ended = await client.resolveOperation({ operationId: found.id, as: options.as });
        return { json: ended, text: operationFields(ended) };
      }),
    );

  program
    .command('audit')
    .description('who changed what, newest first')
    .option('--subject <subject>', 'only entries about this')
    .option('--limit <number>', 'at most this many', atLeastOne, 50)
    .addHelpText('after', examples('rookery audit --limit 20'))
    .action(
      cli.action<{ subject?: string; limit: number }>(async (run, _, { subject, limit }) => {
        const client = await run.client();
        const pages = client.each('listAudit', {
          limit: Math.min(limit, 500),
          ...(subject !== undefined && { subject }),
        });
        const found = await collect(firstOf(pages, limit));
        return {
          json: found,
          text: table(
            ['WHEN', 'WHO', 'WHAT', 'SUBJECT'],
            found.map((one) => [relativeTime(one.at), one.actor, one.action, one.subject]),
          ),
        };
      }),
    );
};

async function* firstOf<T>(items: AsyncIterable<T>, limit: number): AsyncGenerator<T> {
  let given = 0;
  for await (const item of items) {
    yield item;
    given += 1;
    if (given >= limit) return;
  }
}

function operationTable(operations: readonly OperationView[]): string {
  return table(
    ['ID', 'KIND', 'PROJECT', 'STATE', 'STARTED', 'ERROR'],
    operations.map((one) => [
      shortId(one.id),
      one.kind,
      shortId(one.projectId),
      one.state,
      relativeTime(one.startedAt ?? one.createdAt),
      one.error?.code ?? '',
    ]),
  );
}

function operationFields(operation: OperationView): string {
  const { error, result } = operation;
  return fields({
    Id: operation.id,
    Kind: operation.kind,
    Project: operation.projectId ?? undefined,
    Host: operation.hostId ?? undefined,
    State: operation.state,
    Progress: hasEnded(operation) ? undefined : describeOperation(operation),
    Step: hasEnded(operation) ? undefined : (operation.step ?? undefined),
    'Waits for': awaited(operation),
    Attempt: String(operation.attempt),
    'Last error': lastError(operation),
    Created: relativeTime(operation.createdAt),
    Ended: operation.endedAt ? relativeTime(operation.endedAt) : undefined,
    Error: error ? `${error.message} (${error.code})` : undefined,
    Result: result ? JSON.stringify(result) : undefined,
    Leaves: operation.leaves.length > 0 ? operation.leaves.join('; ') : undefined,
  });
}

function awaited({ waitsFor }: OperationView): string | undefined {
  if (!waitsFor) return undefined;
  const { kind, id, name, since } = waitsFor;
  return `${kind} ${name ?? shortId(id)}, last heard of ${relativeTime(since)}`;
}

function lastError({ lastError: error, tries }: OperationView): string | undefined {
  return error ? `${error.message} (${error.code}, ${tries} times)` : undefined;
}
