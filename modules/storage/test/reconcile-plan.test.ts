import { describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import type { StorageDesired } from '@rookery/storage/contract';
import { planStorageRepairs, type StorageActual } from '@rookery/storage/testing';

const now = 1_000_000;
const graceMs = 60_000;
/** Old enough to be removed, and one millisecond less. */
const [old, young] = [now - graceMs, now - graceMs + 1];
const projectId = newId();
const moveId = newId();
const name = 'move-x-1';

const nobody: StorageDesired = { projects: [], retired: [], moves: [], frozen: [] };
const wanted = { ...nobody, projects: [{ projectId, quotaBytes: 100 }] };
const retired = { ...nobody, retired: [projectId] };
const nothing: StorageActual = {
  volumes: [],
  unfinished: [],
  restores: [],
  landings: [],
  frozen: [],
  stagedPaths: [],
  leftovers: [],
  stagedImages: [],
};
const volume = { volumes: [{ projectId, limitBytes: 100 }] };

/** What is done, without the look at the groups that comes last each time. */
function planned(desired: StorageDesired, actual: Partial<StorageActual>): unknown[] {
  const actions = planStorageRepairs(desired, { ...nothing, ...actual }, { now, graceMs });
  expect(actions.at(-1)).toEqual({ kind: 'drop-qgroups' });
  return actions.slice(0, -1);
}

describe('what is repaired on a volume', () => {
  it('is nothing where there is nothing, and where all is as it should be', () => {
    expect(planned(nobody, {})).toEqual([]);
    expect(planned(wanted, volume)).toEqual([]);
  });

  it('is a limit that is missing or another one', () => {
    const action = { kind: 'set-quota', projectId, quotaBytes: 100 };
    expect(planned(wanted, { volumes: [{ projectId, limitBytes: 99 }] })).toEqual([action]);
    expect(planned(wanted, { volumes: [{ projectId }] })).toEqual([action]);
  });

  it('is never a volume that nobody named, and one that has left unless it is wanted again', () => {
    expect(planned(nobody, volume)).toEqual([{ kind: 'report-unknown', projectId }]);
    expect(planned(retired, volume)).toEqual([{ kind: 'delete-retired', projectId }]);
    expect(planned({ ...wanted, retired: [projectId] }, volume)).toEqual([]);
    expect(planned(retired, {})).toEqual([]);
  });

  it('is a making or a removal that did not end, when it is old', () => {
    const deletion = [{ kind: 'delete-unfinished', projectId }];
    for (const state of ['creating', 'deleting'] as const) {
      const unfinished = (changedAt: number) => ({ unfinished: [{ projectId, state, changedAt }] });
      expect(planned(wanted, unfinished(old))).toEqual(deletion);
      expect(planned(wanted, unfinished(young))).toEqual([]);
      // One that is in its place is whole; one that was to go is not.
      const both = { ...volume, ...unfinished(old) };
      expect(planned(wanted, both)).toEqual(state === 'creating' ? [] : deletion);
      const another = { volumes: [{ projectId: newId(), limitBytes: 1 }], ...unfinished(old) };
      expect(planned(wanted, another)).toContainEqual(deletion[0]);
    }
  });

  it('is a restore that did not end, whatever its age', () => {
    expect(planned(wanted, { restores: [projectId] })).toEqual([
      { kind: 'finish-restore', projectId },
    ]);
  });

  it('is what arrived by a move that is over, when it is old and nothing is received', () => {
    const landing = { moveId, createdAt: old, busy: false, halfReceived: false };
    const drop = [{ kind: 'drop-landing', moveId }];
    expect(planned(nobody, { landings: [landing] })).toEqual(drop);
    expect(planned(nobody, { landings: [{ ...landing, halfReceived: true }] })).toEqual(drop);
    expect(planned(nobody, { landings: [{ ...landing, createdAt: young }] })).toEqual([]);
    expect(planned(nobody, { landings: [{ ...landing, busy: true }] })).toEqual([]);
  });

  it('is what arrived in part by a move that goes on, at any age', () => {
    const moving = { ...nobody, moves: [moveId] };
    const landing = { moveId, createdAt: old, busy: false, halfReceived: true };
    const drop = [{ kind: 'drop-half-received', moveId }];
    expect(planned(moving, { landings: [landing] })).toEqual(drop);
    expect(planned(moving, { landings: [{ ...landing, createdAt: young }] })).toEqual(drop);
    expect(planned(moving, { landings: [{ ...landing, busy: true }] })).toEqual([]);
    expect(planned(moving, { landings: [{ ...landing, halfReceived: false }] })).toEqual([]);
  });

  it('is a temporary snapshot that nobody claims, when it is old and its project stays', () => {
    const frozen = { projectId, name, createdAt: old };
    const drop = [{ kind: 'drop-frozen', projectId, name }];
    expect(planned(wanted, { frozen: [frozen] })).toEqual(drop);
    expect(planned(wanted, { frozen: [{ ...frozen, createdAt: young }] })).toEqual([]);
    expect(planned({ ...wanted, frozen: [{ projectId, name }] }, { frozen: [frozen] })).toEqual([]);
    const others = [
      { projectId, name: 'other' },
      { projectId: newId(), name },
    ];
    expect(planned({ ...wanted, frozen: others }, { frozen: [frozen] })).toEqual(drop);
    expect(planned(retired, { ...volume, frozen: [frozen] })).toEqual([
      { kind: 'delete-retired', projectId },
    ]);
    const unfinished = [{ projectId, state: 'deleting' as const, changedAt: old }];
    expect(planned(wanted, { ...volume, unfinished, frozen: [frozen] })).toEqual([
      { kind: 'delete-unfinished', projectId },
    ]);
  });

  it('is what a restore of a path had staged, when nobody fills or claims it', () => {
    const staged = { projectId, name, createdAt: old, busy: false };
    const drop = [{ kind: 'drop-staged-path', projectId, name }];
    expect(planned(wanted, { stagedPaths: [staged] })).toEqual(drop);
    expect(planned(wanted, { stagedPaths: [{ ...staged, busy: true }] })).toEqual([]);
    expect(planned(wanted, { stagedPaths: [{ ...staged, createdAt: young }] })).toEqual([]);
    const claims = (...stagedPaths: { projectId: string; name: string }[]) =>
      planned({ ...wanted, stagedPaths }, { stagedPaths: [staged] });
    expect(claims({ projectId, name })).toEqual([]);
    expect(claims({ projectId, name: 'other' }, { projectId: newId(), name })).toEqual(drop);
    expect(planned(retired, { ...volume, stagedPaths: [staged] })).toEqual([
      { kind: 'delete-retired', projectId },
    ]);
  });

  it('is what nobody waits for, when it is old, and what an extraction had staged', () => {
    const leftovers = [
      { path: 'old', createdAt: old },
      { path: 'young', createdAt: young },
    ];
    expect(planned(nobody, { leftovers, stagedImages: ['image'] })).toEqual([
      { kind: 'drop-leftover', path: 'old' },
      { kind: 'drop-staged-image', name: 'image' },
    ]);
  });
});
