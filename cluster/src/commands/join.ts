import { resolve } from 'node:path';
import { SystemExec } from '@rookery/core';
import { usageError, bytes, port, examples, type CommandModule } from '@rookery/cli';
import { ClusterCommands, findParts } from '../cluster-parts.js';
import { clusterEnvironment } from '../config/environment.js';
import { defaultHostDataDir, joinSettings, runHost } from '../joining-host.js';
import { requireRoot } from '../root.js';

interface JoinOptions {
  readonly name?: string;
  readonly listen?: string;
  readonly port?: number;
  readonly publicUrl?: string;
  readonly region?: string;
  readonly volume?: number;
}

/** A host on this machine, for a hub anywhere. */
export const joinCommands: CommandModule = (program, cli) => {
  program
    .command('join')
    .description('run a host of a hub on this machine; Ctrl-C stops it, its projects run on')
    .argument('<url>', 'where the hub answers')
    .option('--name <name>', 'name of the host (default: this machine’s)')
    .option('--listen <address>', 'where hub and other hosts reach it; loopback for a local hub')
    .option('--port <port>', 'for browsers; SSH and the agent take the next two', port)
    .option('--public-url <url>', 'how browsers reach it')
    .option('--region <region>', 'where it stands')
    .option('--volume <size>', 'size of its volume, a sparse file', bytes)
    .addHelpText(
      'after',
      `
--token is the one-time token of \`rookery host join-token\` (or ROOKERY_JOIN_TOKEN); a host that has
joined needs none. --data is its folder (default: ${defaultHostDataDir}). All other settings are ROOKERY_
variables, see appliance/README.md. The host's log goes to stderr.
${examples(
  'rookery join http://hub.example:7700 --token TOKEN --listen 192.0.2.7',
  'rookery join http://127.0.0.1:7700 --port 7900',
)}`,
    )
    .action(
      cli.action<JoinOptions>(async (run, [url = ''], options) => {
        if (!URL.canParse(url) || !/^https?:/.test(url)) {
          throw usageError(`${url} is not a URL; write for example http://hub.example:7700`);
        }
        requireRoot();
        const { cacheDir, parts, joinToken } = clusterEnvironment(run.io.env);
        const { applianceMain } = await findParts(cacheDir, parts);
        const { token = joinToken, data = defaultHostDataDir } = run.options;
        const { volume: volumeBytes, ...wish } = options;
        const settings = await joinSettings(
          {
            ...wish,
            hubUrl: url,
            dataDir: resolve(data),
            ...(token !== undefined && { joinToken: token }),
            ...(volumeBytes !== undefined && { volumeBytes }),
          },
          run.io.env,
          new SystemExec(),
        );
        const name = settings['ROOKERY_HOST_NAME'] ?? '';
        const ended = new AbortController();
        for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
          run.io.onSignal(signal, () => ended.abort());
        }
        run.progress.step(`starting the host ${name} in ${settings['ROOKERY_DATA']}`);
        await runHost(ClusterCommands.joining(applianceMain, name, settings), settings, {
          signal: ended.signal,
          onReady: () =>
            run.print({
              json: { name, hubUrl: url, dataDir: settings['ROOKERY_DATA'] },
              text: `the host ${name} serves ${url}; Ctrl-C stops it`,
            }),
        });
        return { json: null, silent: true };
      }),
    );
};
