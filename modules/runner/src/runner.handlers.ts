import type { Handlers, JobContext } from '@rookery/rpc/contract';
import type { Progress } from '@rookery/core/contract';
import { pipeline } from 'node:stream/promises';
import type { Readable, Writable } from 'node:stream';
import type { hostProjects } from '@rookery/fleet/contract';
import { RunnerErrors } from './runner.errors.js';
import type { RunnerService } from './runner.service.js';

/** End of transmission: what a terminal takes for the end of input. */
const endOfTransmission = '\u0004';

/** Serves the contract from the service. */
export function createRunnerHandlers(service: RunnerService): Handlers<typeof hostProjects> {
  return {
    create: ({ fence, spec }, context) => service.create(fence, spec, reporter(context)),
    start: ({ fence, spec, listeners }, context) =>
      service.start(fence, spec, reporter(context), listeners),
    stop: ({ fence, graceMs, startsAgain, writers }) =>
      service.stop(fence, graceMs, { startsAgain, writers }),
    delete: async ({ fence }) => {
      await service.delete(fence);
      return {};
    },
    update: ({ fence, spec }) => service.update(fence, spec),
    clone: ({ fence, fromProjectId, fromSnapshot, spec }, { signal }) =>
      service.clone(fence, { projectId: fromProjectId, snapshot: fromSnapshot }, spec, signal),
    adopt: ({ fence, spec }) => service.adopt(fence, spec),
    get: ({ projectId }) => service.get(projectId),
    stats: ({ projectId }) => service.stats(projectId),
    exec: async (input, context) => {
      const session = await service.exec(input);
      const kill = (): void => session.kill();
      context.signal.addEventListener('abort', kill, { once: true });
      if (context.signal.aborted) kill();
      context.onControl((message) => {
        if (message.kind === 'resize') session.resize(message.size);
        else session.signal(message.signal);
      });
      feed(context.stdin, session.stdin, input.tty !== undefined);
      try {
        const [exit] = await Promise.all([
          session.exit,
          drain(session.stdout, context.stdout, context.signal),
          drain(session.stderr, context.stderr, context.signal),
        ]);
        return { exit };
      } finally {
        context.signal.removeEventListener('abort', kill);
        session.kill();
      }
    },
    logs: async ({ projectId, follow, tailLines }, context) => {
      const { signal } = context;
      const log = await service.logs(projectId, { follow, tailLines, signal });
      await drain(log, context.stdout, signal);
      return {};
    },
  };
}

const reporter = (context: JobContext) => (progress: Progress) => context.progress(progress);

/** A caller that closes its side ends the command's input; on a terminal that is a key. */
function feed(from: Readable, to: Writable, isTerminal: boolean): void {
  from.pipe(to, { end: !isTerminal });
  // The command may have closed its input: what is typed after that is nobody's.
  to.on('error', () => from.unpipe(to).resume());
  if (isTerminal) from.once('end', () => to.writable && to.write(endOfTransmission));
}

/**
 * Copies until the source ends. A caller that has gone hears no more of it; a source that is cut off
 * must not look like one that ended.
 */
async function drain(from: Readable, to: Writable, signal: AbortSignal): Promise<void> {
  try {
    await pipeline(from, to, { end: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
    if (signal.aborted || to.destroyed) return;
    throw RunnerErrors.OUTPUT_CUT({}, { cause: error });
  }
}
