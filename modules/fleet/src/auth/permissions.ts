import type { ProjectRole } from '@rookery/core/contract';
import type { z } from 'zod';
import { spaceSubjects, type ConatIdentity, type ConatPermissions } from '@rookery/conat/contract';
import { identityNames, projectSpaceRoot } from '../contract/identities.js';

/** Answers to what was just asked; each message of a conversation renews it. */
const responses = { countMax: 1_000_000, ttlMs: 120_000 };

/** What a viewer may ask of a project; everything else could change something. */
const viewerAsks = [
  'status',
  'streams.logs',
  'fs.stat',
  'fs.list',
  'fs.read',
  'fs.watch',
  'fs.find',
  'fs.grep',
] as const;

/**
 * What a viewer may ask of a project's JetStream, under `js.api`: to look, and to read by consumers
 * that acknowledge nothing (ordered ones, watches of keys; see readerRequest). Not: to make, change,
 * purge or delete a stream or a message, to put a key (a publication, which it lacks), to
 * acknowledge, to delete or pause a consumer.
 */
const viewerReads = [
  'INFO',
  'STREAM.NAMES',
  'STREAM.LIST',
  'STREAM.INFO.*',
  'STREAM.MSG.GET.*',
  'DIRECT.GET.>',
  'CONSUMER.NAMES.*',
  'CONSUMER.LIST.*',
  'CONSUMER.INFO.*.*',
  'CONSUMER.CREATE.>',
  'CONSUMER.MSG.NEXT.*.*',
] as const;

/** Who listened here could answer in the host's place. */
const servedByRookery = ['project.*.streams.>', 'project.*.fs.>', 'project.*.terminal.>'];
/** Answers of a project's JetStream are its own programs' and the broker's to give. */
const servedInProject = 'project.*.js.api.>';

/** The hub's own processes: everything. */
export function hubPermissions(): ConatPermissions {
  return { publish: { allow: ['>'] }, subscribe: { allow: ['>'] }, inboxes: 'all' };
}

/** A host serves its own subjects and reports about itself. */
export function hostPermissions(hostId: string): ConatPermissions {
  return {
    // Whose project it is, the hub looks up itself.
    publish: { allow: [`hosts.${hostId}.>`, 'routes.*.resolve'] },
    // `$SRV`: hubs and their operators ask which services there are.
    subscribe: { allow: [`host.${hostId}.>`, 'hosts.keys', '$SRV.>'] },
    responses,
  };
}

/** A host that is not registered yet may say one thing. */
export function joiningHostPermissions(): ConatPermissions {
  return { publish: { allow: ['hosts.register'] }, subscribe: { allow: [] } };
}

/** A project's programs: the project's own space, by way of a rooted connection. */
export function projectPermissions(projectId: string): ConatPermissions {
  const own = spaceSubjects({ root: projectSpaceRoot, id: projectId });
  return {
    publish: { allow: own },
    subscribe: { allow: own, deny: servedByRookery },
    responses,
  };
}

/** Who a project's program is: its connection is rooted in the project. */
export function projectIdentity(projectId: string): ConatIdentity {
  return {
    name: identityNames.project(projectId),
    permissions: projectPermissions(projectId),
    rootedIn: projectId,
  };
}

/** A project that an account may enter, and as what. */
export interface ProjectAccess {
  readonly projectId: string;
  readonly role: z.infer<typeof ProjectRole>;
}

/**
 * An account: its own space and its projects', by role. Acknowledgements and flow control have
 * subjects of their own (see SubjectMapping). A viewer hears all of a project, but neither answers
 * what it hears nor takes it from the members of a queue nor acknowledges it.
 * @param onlyProject its token opens no other
 */
export function accountPermissions(
  accountId: string,
  projects: readonly ProjectAccess[],
  onlyProject?: string,
): ConatPermissions {
  const publish = [`account.${accountId}.>`];
  const subscribe = [`account.${accountId}.>`];
  const readOnly: string[] = [];
  for (const { projectId, role } of projects) {
    if (onlyProject !== undefined && projectId !== onlyProject) continue;
    const space = `project.${projectId}`;
    subscribe.push(`${space}.>`, `routes.${projectId}.changed`);
    publish.push(`routes.${projectId}.resolve`);
    publish.push(`$JS.FC.*.${projectId}.>`);
    if (role === 'viewer') {
      readOnly.push(projectId);
      publish.push(
        ...viewerAsks.map((subject) => `${space}.${subject}`),
        ...viewerReads.map((subject) => `${space}.js.api.${subject}`),
      );
    } else {
      publish.push(`${space}.>`, `$JS.ACK.*.${projectId}.>`);
    }
  }
  const viewed = readOnly.map((projectId) => `project.${projectId}.>`);
  return {
    publish: { allow: publish },
    subscribe: { allow: subscribe, deny: [...servedByRookery, servedInProject], noQueue: viewed },
    responses: { ...responses, except: viewed },
    readOnly,
  };
}

/** As {@link accountPermissions}; null for a connection whose one project is not among them (now). */
export function connectionPermissions(
  accountId: string,
  projects: readonly ProjectAccess[],
  onlyProject: string | undefined,
): ConatPermissions | null {
  const opens = projects.some(({ projectId }) => projectId === onlyProject);
  if (onlyProject !== undefined && !opens) return null;
  return accountPermissions(accountId, projects, onlyProject);
}
