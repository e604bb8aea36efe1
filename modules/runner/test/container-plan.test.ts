import { describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import { emptyRecord, planContainers, type ProjectRecord } from '@rookery/runner';

const projectId = newId();
const quota = { diskBytes: 1, memoryBytes: 1, cpus: 1, pidsMax: 1 };
const record = (change: Partial<ProjectRecord>): ProjectRecord => ({
  projectId,
  generation: 1,
  spec: { image: 'debian:13', quota, publicPorts: [] },
  ...emptyRecord,
  ...change,
});
const container = (state: 'running' | 'exited', address?: string, rescue = false) => ({
  projectId,
  generation: 1,
  state,
  rescue,
  ...(address !== undefined && { address }),
});
const rescued = { image: 'debian:13', quota, publicPorts: [], rescue: true };
const known = { desiredState: 'running', state: 'running', address: '10.0.0.2' } as const;

describe('the plan for a project', () => {
  it.each([
    ['runs and should', record(known), container('running', '10.0.0.2'), []],
    ['runs elsewhere', record(known), container('running', '10.0.0.3'), ['adopt']],
    [
      'runs unknown',
      record({ ...known, state: 'stopped' }),
      container('running', '10.0.0.2'),
      ['adopt'],
    ],
    [
      'runs without an address, as is known',
      record({ ...known, address: null }),
      container('running'),
      [],
    ],
    [
      'runs in rescue mode and should not',
      record(known),
      container('running', '10.0.0.2', true),
      ['stop'],
    ],
    [
      'should run in rescue mode and does not',
      record({ ...known, spec: rescued }),
      container('running', '10.0.0.2'),
      ['stop'],
    ],
    [
      'runs in rescue mode as it should',
      record({ ...known, spec: rescued }),
      container('running', '10.0.0.2', true),
      [],
    ],
    ['died', record(known), container('exited'), ['start']],
    ['is not there', record(known), undefined, ['start']],
    ['runs and should not', record({ state: 'stopped' }), container('running'), ['stop']],
    ['is archived and runs', record({ state: 'archived' }), container('running'), ['stop']],
    [
      'is archived and wanted',
      record({ state: 'archived', desiredState: 'running' }),
      undefined,
      [],
    ],
    ['is archived and gone', record({ state: 'archived' }), undefined, []],
    ['has stopped', record({ state: 'stopped' }), undefined, []],
    ['was stopping', record({ state: 'stopping' }), undefined, ['settle']],
    ['was starting', record({ state: 'starting' }), undefined, ['settle']],
    ['is held by a move', record({ ...known, fencedBy: newId() }), undefined, []],
    ['is held by a restore', record({ ...known, restoringBy: newId() }), undefined, []],
    [
      'is held by a move and runs',
      record({ state: 'stopped', fencedBy: newId() }),
      container('running'),
      [],
    ],
  ])('that %s', (_, wanted, found, kinds) => {
    const plan = planContainers([wanted], found ? [found] : []);
    expect(plan.map(({ kind }) => kind)).toEqual(kinds);
  });

  it('leaves containers of unknown projects to the driver', () => {
    expect(planContainers([], [container('running')])).toEqual([]);
  });

  it.each([
    ['ran and ended by itself', 'running', 'exited', true],
    ['ran and is gone', 'running', undefined, false],
    ['was told to stop, and to start again', 'stopping', 'exited', false],
    ['was never seen to run', 'starting', 'exited', false],
  ] as const)('says of what %s how it ended, if it says it at all', (...row) => {
    const [, state, found, isTold] = row;
    const wanted = record({ ...known, state });
    const ended = found && container(found);
    const start = { kind: 'start', projectId, ...(isTold && { ended }) };
    expect(planContainers([wanted], ended ? [ended] : [])).toStrictEqual([start]);
  });
});
