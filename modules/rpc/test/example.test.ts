import { expect, it } from '@jest/globals';
import { greet } from '../examples/greeting.js';

it('the example calls a service and follows its long work', async () => {
  expect(await greet('crow')).toEqual({ text: 'Hello, crow.', sum: 10, steps: 4 });
});
