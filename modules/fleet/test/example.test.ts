import { expect, it } from '@jest/globals';
import { whereIs } from '../examples/network.js';

it('the example tells an account where its project is, and nothing of others', async () => {
  expect(await whereIs()).toEqual({
    urls: ['wss://host-1.example/conat'],
    stranger: 'SERVICE_FORBIDDEN',
  });
});
