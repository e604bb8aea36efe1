import { expect, it } from '@jest/globals';
import { run } from '../examples/two-hosts.js';

it('moves a project between the hosts of the example', async () => {
  const { outcome, toHostId, runsOn, volumes, files } = await run();
  expect(outcome).toMatchObject({
    status: 'succeeded',
    result: { hostId: toHostId, generation: 2 },
  });
  expect(runsOn).toEqual([toHostId]);
  expect(files).toEqual(['hello']);
  expect(volumes.from).toBeUndefined();
});
