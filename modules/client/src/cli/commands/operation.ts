import { Option } from 'commander';
import { OperationView } from '../../contract/views.js';
import { hasEnded, successOf } from '../../sdk/operations.js';
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
    Attempt: String(operation.attempt),
    Created: relativeTime(operation.createdAt),
    Ended: operation.endedAt ? relativeTime(operation.endedAt) : undefined,
    Error: error ? `${error.message} (${error.code})` : undefined,
    Result: result ? JSON.stringify(result) : undefined,
  });
}
