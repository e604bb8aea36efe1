import { expect, it } from '@jest/globals';
import { api } from '@rookery/api';
import { isPublic, projectOf, routes } from '../examples/routes.js';

it('every operation has an address of its own', () => {
  const all = Object.values(api).map(
    ({ method, path }) => `${method} ${path.replace(/\{\w+\}/g, '{}')}`,
  );
  expect(new Set(all).size).toBe(all.length);
});

it('the example lists the operations, and knows a project when it sees one', () => {
  expect(routes()).toContain('getHealth: GET /api/v1/health (Whether the hub works)');
  expect([isPublic('getHealth'), isPublic('createProject')]).toEqual([true, false]);
  expect(projectOf({ id: 1 })).toBeUndefined();
});
