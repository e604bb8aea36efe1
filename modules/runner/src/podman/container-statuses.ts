import type { ProjectId } from '@rookery/core/contract';
import { z } from 'zod';
import type { ContainerStatus } from '../container.driver.js';
import { labels } from './container-args.js';
import type { ProjectLink } from './network.plan.js';
import { isAlive } from './processes.js';

/** `podman ps --format json`, as far as it is used. */
const PodmanContainers = z.array(
  z.object({
    Id: z.string(),
    State: z.string(),
    Pid: z.number().default(0),
    ExitCode: z.number().default(0),
    StartedAt: z.number().default(0),
    Labels: z.record(z.string(), z.string()).nullish(),
  }),
);
type PodmanContainer = z.infer<typeof PodmanContainers>[number];

type RanOutOfMemory = (id: ProjectId, containerId: string) => Promise<boolean>;

/**
 * What podman's list and the kernel's links say of a host's containers.
 * @param listed `podman ps --format json`
 */
export function containerStatuses(
  listed: string,
  links: readonly ProjectLink[],
  ranOutOfMemory: RanOutOfMemory,
): Promise<ContainerStatus[]> {
  const linked = new Map(links.map((link) => [link.projectId, link]));
  const containers = PodmanContainers.parse(JSON.parse(listed.trim() === '' ? '[]' : listed));
  return Promise.all(containers.map((container) => statusOf(container, linked, ranOutOfMemory)));
}

async function statusOf(
  container: PodmanContainer,
  linked: ReadonlyMap<string, ProjectLink>,
  ranOutOfMemory: RanOutOfMemory,
): Promise<ContainerStatus> {
  const own = container.Labels ?? {};
  const projectId = own[labels.project] ?? '';
  const address = own[labels.address];
  const generation = Number(own[labels.generation] ?? 0);
  const rescue = own[labels.rescue] === 'true';
  const common = { projectId, generation, rescue, ...(address !== undefined && { address }) };
  if (container.State !== 'running') {
    const state = container.State === 'created' ? 'created' : 'exited';
    const outOfMemory = await ranOutOfMemory(projectId, container.Id);
    return { ...common, state, exit: container.ExitCode, outOfMemory };
  }
  // Without its link it can be reached by nobody: a host died in the middle of its start.
  const link = linked.get(projectId);
  const whole = link !== undefined && link.address === address && (await isAlive(container.Pid));
  return {
    ...common,
    state: whole ? 'running' : 'broken',
    startedAt: container.StartedAt * 1000,
    ...(link && { linkIndex: link.index }),
  };
}
