import { CoreErrors } from '@rookery/core';
import type { Cli } from '../cli.js';
import type { CommandResult, CommandRun } from '../run.js';
import type { BrokerOptions } from './broker-options.js';
import { openBroker, type BrokerSession } from './broker-session.js';
import { codedFailure } from './failures.js';

/** What a command gets: its run, the broker, its operands, its options. */
export type BrokerHandler<O> = (
  run: CommandRun,
  session: BrokerSession,
  operands: readonly (string | undefined)[],
  options: O & BrokerOptions,
) => Promise<CommandResult>;

interface ActionOptions {
  /** The command goes on until Ctrl-C, which is its good end: it looks at `run.signal` itself. */
  readonly listens?: boolean;
}

/** The action of a command that talks to a broker: connects, names failures, hangs up. */
export function brokerAction<O extends object>(
  cli: Cli,
  handler: BrokerHandler<O>,
  { listens = false }: ActionOptions = {},
): (...args: unknown[]) => Promise<void> {
  return cli.action<O & BrokerOptions>(async (run, operands, options) => {
    try {
      const session = await openBroker(run, options);
      try {
        const work = handler(run, session, operands, options);
        return await (listens ? work : Promise.race([work, interrupted(run.signal)]));
      } finally {
        await session.close();
      }
    } catch (error) {
      throw codedFailure(error);
    }
  });
}

function interrupted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (): void => reject(CoreErrors.CANCELED());
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}
