import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { serve } from '@rookery/rpc';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { projectStreams } from '@rookery/api';
import { firstProject } from '../examples/first-project.js';
import { HubInMemory } from '../src/testing/hub-in-memory.js';

let broker: TestBroker;
let hub: HubInMemory;

beforeEach(async () => {
  broker = await startTestBroker();
  hub = await HubInMemory.start();
  hub.conat = { url: broker.url, token: 'any', inboxPrefix: '_INBOX.account-1' };
});
afterEach(async () => {
  await hub.server.close();
  await broker.close();
});

it('the example makes a project, runs a command and takes a snapshot', async () => {
  const said = jest.spyOn(console, 'error').mockImplementation(() => undefined);
  // The example's project has an id of its own: whatever is asked is served.
  hub.onCreate = async (projectId) => {
    await serve(
      await broker.connect(),
      projectStreams,
      {
        async exec({ command }, { stdin, stdout, stderr }) {
          stdin.resume();
          stdout.end(`${command.join(' ')}\n`);
          stderr.end();
          return { exit: 0 };
        },
        async logs() {
          return {};
        },
      },
      { params: { projectId } },
    );
  };
  expect(await firstProject(hub.server.url, 'rk_secret')).toBe('uname -s');
  expect([...hub.snapshots.values()]).toMatchObject([[{ name: 'fresh' }]]);
  expect(said).toHaveBeenCalled();
  said.mockRestore();
});
