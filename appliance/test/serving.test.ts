import { describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import type { Handlers } from '@rookery/rpc/contract';
import type { hostProjects } from '@rookery/fleet/contract';
import { cloningClosed } from '../src/agent/serving.js';

describe('a clone where storage has no snapshots', () => {
  it('reads the origin while its persistence is closed, and opens it again', async () => {
    const told: string[] = [];
    const accounts = {
      whileClosed: async <T>(projectId: string, task: () => Promise<T>): Promise<T> => {
        told.push(`closed ${projectId}`);
        return task().finally(() => told.push(`open ${projectId}`));
      },
    };
    const clone = async () => {
      told.push('cloned');
      throw new Error('no room');
    };
    const handlers = { clone } as unknown as Handlers<typeof hostProjects>;
    const fromProjectId = newId();
    const input = { fromProjectId } as Parameters<typeof handlers.clone>[0];
    const context = {} as Parameters<typeof handlers.clone>[1];
    await expect(cloningClosed(handlers, accounts).clone(input, context)).rejects.toThrow('room');
    expect(told).toEqual([`closed ${fromProjectId}`, 'cloned', `open ${fromProjectId}`]);
  });
});
