import { Quota, type Egress } from '@rookery/core/contract';
import type { QuotaInput } from '@rookery/api';
import type { z } from 'zod';
import type { Caller } from '../accounts/auth.service.js';
import type { Project } from '../database/entities/project.entity.js';
import type { ChosenHost } from '../hosts/placement.service.js';

/** Who asks for work, and under which idempotency key. */
export interface RequestContext {
  readonly caller: Caller;
  readonly idempotencyKey: string | undefined;
}

export interface NewProject {
  /** Absent: a new one. */
  readonly id?: string;
  /** Absent: the caller. */
  readonly ownerId?: string;
  readonly name: string;
  readonly image: string;
  readonly imageDigest?: string | null;
  readonly quota: Quota;
  readonly publicPorts?: number[];
  readonly egress: Egress | null;
  readonly host?: string | undefined;
  /** The host is given, not chosen: a clone begins where its source lives. */
  readonly onHost?: ChosenHost;
  /** Where a clone shall end, when not there: room and quota are promised there at once. */
  readonly toHost?: ChosenHost;
  /** Keeps the egress that it had: what a host allows less, it holds the project to. */
  readonly isCopy?: boolean;
  readonly usedBytes?: number | undefined;
  readonly desiredState: 'running' | 'stopped';
}

/** Defaults, then what was there before, then what the caller chose. */
export const quotaWith = (choice: z.output<typeof QuotaInput>, before?: Quota): Quota =>
  Quota.parse({ ...before, ...definedOf(choice) });

const definedOf = (choice: object): object =>
  Object.fromEntries(Object.entries(choice).filter(([, value]) => value !== undefined));

export const isAlive = (project: Pick<Project, 'state'>): boolean =>
  project.state === 'running' || project.state === 'starting';

/** Whether it runs, or would if its host had not lost it. */
export const shouldRun = (project: Project): boolean =>
  isAlive(project) ||
  (project.error?.code === 'PROJECT_MISSING' && project.desiredState === 'running');
