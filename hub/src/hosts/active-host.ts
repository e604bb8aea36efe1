import type { EntityManager } from 'typeorm';
import { ProjectHost } from '../database/entities/host.entity.js';
import { HubErrors } from '../hub.errors.js';

/** A host that has joined and was not removed. @throws HOST_UNKNOWN */
export async function activeHost(manager: EntityManager, id: string): Promise<ProjectHost> {
  const host = await manager.findOneBy(ProjectHost, { id, status: 'active' });
  if (!host) throw HubErrors.HOST_UNKNOWN({ host: id });
  return host;
}
