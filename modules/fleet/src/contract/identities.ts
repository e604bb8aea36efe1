/** Names and places on conat. */

/** The first token of all subject spaces of projects: what a project calls `x` is `project.<id>.x`. */
export const projectSpaceRoot = 'project';

/** Who may do what: `ConatIdentity.name` is also the inbox token `_INBOX.<name>.>`. */
export const identityNames = {
  hub: 'hub',
  host: (hostId: string): string => `host-${hostId}`,
  account: (accountId: string): string => `account-${accountId}`,
  project: (projectId: string): string => `project-${projectId}`,
} as const;

/** The host that a name is of; undefined for anybody else's. */
export const hostOfIdentity = (name: string): string | undefined => /^host-(.+)$/.exec(name)?.[1];

/** The account that a name is of; undefined for anybody else's. */
export const accountOfIdentity = (name: string): string | undefined =>
  /^account-(.+)$/.exec(name)?.[1];
