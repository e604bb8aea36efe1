import { text } from 'node:stream/consumers';
import { RookeryClient } from '@rookery/client';

/** Makes a project, starts it, runs a command in it, and takes a snapshot. */
export async function firstProject(url: string, token: string): Promise<string> {
  const client = new RookeryClient({ url, token });
  try {
    const { operation, project } = await client.createProject({ name: 'first', start: true });
    await client.waitForOperation(operation.id, {
      onProgress: ({ step, progress }) => console.error(step, progress?.done, progress?.total),
    });
    const call = await client.exec(project.id, { command: ['uname', '-s'] });
    call.stdin.end();
    const system = (await text(call.stdout)).trim();
    await client.createSnapshot({ projectId: project.id, name: 'fresh' });
    return system;
  } finally {
    await client.close();
  }
}
