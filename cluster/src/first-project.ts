import { CodedError, waitFor } from '@rookery/core';
import type { ProjectView } from '@rookery/api';
import type { RookeryClient } from '@rookery/client';
import { ClusterErrors } from './cluster.errors.js';
import type { ClusterFile } from './cluster-file.js';

const projectName = 'hello';
const firstProjectPort = 8080;
const timeouts = { pageMs: 90_000, execMs: 60_000 } as const;

export interface FirstProjectOptions {
  readonly client: RookeryClient;
  readonly cluster: ClusterFile;
  readonly signal: AbortSignal;
  readonly onStep: (text: string) => void;
  readonly remember: (projectId: string) => Promise<void>;
}

/**
 * Makes the project `hello` with a small web page, once in a cluster's life, and waits until the
 * page answers through the hub. Dying anywhere in between and running again ends in one project.
 * @returns null when somebody has deleted it
 */
export async function ensureFirstProject(
  options: FirstProjectOptions,
): Promise<ProjectView | null> {
  const { client, cluster, onStep } = options;
  if (cluster.firstProjectId !== undefined) return present(options, cluster.firstProjectId);
  onStep(`making the project ${projectName}`);
  const started = await client.createProject(
    { name: projectName, start: true },
    // The same request whoever repeats it: a run that died after it finds the project it made.
    { idempotencyKey: `first-project-${cluster.id}-${cluster.createdAt}` },
  );
  await follow(options, started.operation.id);
  const projectId = started.project.id;
  // It may have been made by a run that died, and been stopped since.
  await follow(options, (await client.startProject({ projectId })).operation.id);
  await installPage(options, projectId);
  await options.remember(projectId);
  return pageAnswers(options, await client.getProject({ projectId }));
}

async function present(options: FirstProjectOptions, id: string): Promise<ProjectView | null> {
  const { client, onStep } = options;
  try {
    const project = await client.getProject({ projectId: id });
    if (project.desiredState !== 'running') return project;
    onStep(`waiting for the project ${project.name}`);
    return await pageAnswers(options, project);
  } catch (error) {
    if (CodedError.is(error, 'PROJECT_UNKNOWN')) return null;
    throw error;
  }
}

async function follow(options: FirstProjectOptions, operationId: string): Promise<void> {
  let last = '';
  await options.client.waitForOperation(operationId, {
    signal: options.signal,
    onProgress(view) {
      const step = view.progress?.step ?? view.step ?? '';
      if (step !== '' && step !== last) options.onStep(`${projectName}: ${step}`);
      last = step;
    },
  });
}

/** Puts the page and the service that shows it into the home directory, over the usual `exec`. */
async function installPage(options: FirstProjectOptions, projectId: string): Promise<void> {
  const call = await options.client.exec(
    projectId,
    { command: ['/bin/sh', '-c', installScript] },
    { signal: AbortSignal.any([options.signal, AbortSignal.timeout(timeouts.execMs)]) },
  );
  call.stdin.end();
  call.stdout.resume();
  let complaint = '';
  call.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  const { exit } = await call.result;
  if (exit !== 0) {
    const reason = `status ${exit}: ${complaint.trim().slice(-300)}`;
    throw ClusterErrors.PART_FAILED({
      name: projectName,
      reason,
      log: 'rookery project logs hello',
    });
  }
}

async function pageAnswers(
  options: FirstProjectOptions,
  project: ProjectView,
): Promise<ProjectView> {
  const { client, signal } = options;
  // The hub's public address may lead through somebody's proxy; this machine asks the hub itself.
  const { pathname } = new URL(project.url);
  const path = `${pathname}${firstProjectPort}/`;
  let seen = 'no answer';
  try {
    await waitFor(
      'the page answers',
      async () => {
        signal.throwIfAborted();
        const status = await statusOf(client, path);
        seen = typeof status === 'number' ? `status ${status}` : status;
        return status === 200;
      },
      { timeoutMs: timeouts.pageMs, everyMs: 200, signal },
    );
  } catch (error) {
    if (!CodedError.is(error, 'TIMEOUT')) throw error;
    options.onStep(`the page of ${project.name} does not answer yet (${seen})`);
  }
  return client.getProject({ projectId: project.id });
}

async function statusOf(client: RookeryClient, path: string): Promise<number | string> {
  try {
    const response = await client.fetchService(path, { signal: AbortSignal.timeout(5000) });
    await response.body?.cancel();
    return response.status;
  } catch (error) {
    return (error as Error).message;
  }
}

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hello from Rookery</title>
<style>
  :root { color-scheme: light dark }
  body { font: 17px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 12vh auto; padding: 0 1.5rem }
  code { background: #8882; padding: .15em .4em; border-radius: .3em }
</style>
</head>
<body>
<h1>Hello from Rookery</h1>
<p>This page is <code>~/www/index.html</code> in the project <code>hello</code>. A small service in
<code>~/.config/rookery/services/web</code> shows it; it listens on 127.0.0.1:8080 inside the
project and nowhere else.</p>
<p>Change the page, take a snapshot, move the project to the other host while you look at it:</p>
<p><code>rookery project exec -t hello -- bash</code><br>
<code>rookery snapshot create hello</code><br>
<code>rookery project move hello</code></p>
</body>
</html>
`;

/** Files that are there already are somebody's own and stay. */
const installScript = `set -eu
mkdir -p ~/www ~/.config/rookery/services
if [ ! -e ~/www/index.html ]; then
cat >~/www/.new <<'PAGE'
${page}PAGE
mv ~/www/.new ~/www/index.html
fi
if [ ! -e ~/.config/rookery/services/web ]; then
cat >~/.config/rookery/services/.web <<'SERVICE'
#!/bin/sh
# Shows ~/www on port ${firstProjectPort}. Requests keep their whole path, /<project>/port/<p>/…: a link leads back.
mkdir -p "$HOME/www/$ROOKERY_PROJECT_ID/port"
ln -sfn ../.. "$HOME/www/$ROOKERY_PROJECT_ID/port/${firstProjectPort}"
if [ -x /opt/rookery/bin/busybox ]; then
  exec /opt/rookery/bin/busybox httpd -f -p 127.0.0.1:${firstProjectPort} -h "$HOME/www"
fi
cd "$HOME/www" && exec python3 -m http.server ${firstProjectPort} --bind 127.0.0.1
SERVICE
chmod 755 ~/.config/rookery/services/.web
mv ~/.config/rookery/services/.web ~/.config/rookery/services/web
fi
kill -HUP 1 2>/dev/null || true
`;
