import { moveProject, type Saga, type SagaTypes } from '@rookery/move';
import { archiveProject } from './sagas/archive-project.saga.js';
import { restoreIntoNew, restorePath, runBackup } from './sagas/backup.saga.js';
import { cloneProject } from './sagas/clone-project.saga.js';
import { adoptProject, deleteCopy } from './sagas/copies.saga.js';
import { drainHost } from './sagas/drain-host.saga.js';
import {
  createProject,
  deleteProject,
  startProjectSaga,
  stopProjectSaga,
  updateProject,
} from './sagas/project-life.saga.js';
import { replaceElsewhere, replaceHere } from './sagas/replace-project.saga.js';
import { resetRootfs } from './sagas/reset-rootfs.saga.js';
import { restoreSnapshot } from './sagas/restore-snapshot.saga.js';

/** Every kind of long work; a saga's name is its operations' kind. */
const sagas = {
  'project.create': createProject,
  'project.start': startProjectSaga,
  'project.stop': stopProjectSaga,
  'project.delete': deleteProject,
  'project.update': updateProject,
  'project.clone': cloneProject,
  'project.move': moveProject,
  'project.archive': archiveProject,
  'project.reset-rootfs': resetRootfs,
  'snapshot.restore': restoreSnapshot,
  'backup.run': runBackup,
  'backup.restore': restoreIntoNew,
  'backup.restore-path': restorePath,
  'backup.replace': replaceElsewhere,
  'backup.replace-here': replaceHere,
  'project.adopt': adoptProject,
  'host.drain': drainHost,
  'host.delete-copy': deleteCopy,
} as const;

export type OperationKind = keyof typeof sagas;
type TypesOf<K extends OperationKind> = (typeof sagas)[K] extends Saga<infer T> ? T : never;
export type OperationInput<K extends OperationKind> = TypesOf<K>['input'];

/** What all sagas together need. */
export type AllPorts = UnionToIntersection<TypesOf<OperationKind>['ports']>;
type UnionToIntersection<U> = (U extends unknown ? (each: U) => void : never) extends (
  each: infer I,
) => void
  ? I
  : never;

export const isOperationKind = (kind: string): kind is OperationKind => Object.hasOwn(sagas, kind);

/** The executor knows a saga only by its table. */
export const sagaOf = (kind: OperationKind): Saga<SagaTypes> =>
  sagas[kind] as unknown as Saga<SagaTypes>;
