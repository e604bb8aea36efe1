import { catalogue } from '@rookery/core';

export const HubErrors = catalogue('hub', {
  // Who asks
  UNAUTHENTICATED: { status: 401, message: 'Sign in, or send an API key as a bearer token.' },
  FORBIDDEN: { status: 403, message: 'This needs the role {role}.' },
  EGRESS_NOT_ALLOWED: {
    status: 409,
    message:
      'The host {host} lets projects reach {most} at most, not {mode}. Choose that or less, or another host.',
  },
  METRICS_FORBIDDEN: {
    status: 403,
    message: 'Metrics are read on the hub’s own machine, or with the token of its settings.',
  },
  CSRF_REFUSED: {
    status: 403,
    message:
      'A change with a session cookie must come from the hub’s own pages. Open them directly.',
  },
  OPEN_REFUSED: {
    status: 403,
    message: 'A project is opened in a tab of its own, not in a frame and not by a script.',
  },
  MISDIRECTED: {
    status: 421,
    message: 'This process of the hub carries no project’s traffic. Send {host} to one that does.',
  },
  LOGIN_TICKET_INVALID: {
    status: 401,
    message: 'The sign-in link is used up or expired. Make a new one.',
  },
  ACCOUNT_EXISTS: { status: 409, message: 'There is already an account for {email}.' },
  ACCOUNT_UNKNOWN: { status: 404, message: 'There is no account {id}.' },
  ACCOUNT_OWN: { status: 409, message: 'You cannot block your own account.' },
  LAST_OWNER: { status: 409, message: 'A project needs an owner. Name another one first.' },

  // Requests
  PAYLOAD_TOO_LARGE: { status: 413, message: 'The body is larger than {bytesMax} bytes.' },
  REQUEST_TOO_SLOW: {
    status: 408,
    message: 'The body did not come within {seconds} s. Send it again.',
    retryable: true,
  },
  TOO_MANY_REQUESTS: {
    status: 429,
    message: 'Your address has {limit} requests under way already. Wait for their answers.',
    retryable: true,
  },
  INVALID_JSON: { status: 400, message: 'The body is not valid JSON: {reason}' },
  METHOD_NOT_ALLOWED: { status: 405, message: '{method} is not for this path; it has {allow}.' },
  ROUTE_UNKNOWN: { status: 404, message: 'There is no {method} {path}.' },
  IDEMPOTENCY_CONFLICT: {
    status: 409,
    message: 'This idempotency key was used with another request. Use a new key.',
  },
  IDEMPOTENCY_IN_PROGRESS: {
    status: 409,
    message: 'The first request with this idempotency key is still being answered. Ask again.',
    retryable: true,
  },

  // Projects
  PROJECT_UNKNOWN: { status: 404, message: 'There is no project {id}.' },
  PROJECT_BUSY: {
    status: 409,
    message: 'The project is busy with {kind}. Wait for operation {operationId}.',
  },
  PROJECT_RUNNING: {
    status: 409,
    message: 'The project is running. Stop it first, or delete it with force.',
  },
  RESCUE_UNSUPPORTED: {
    status: 501,
    message:
      'The project’s host does not know rescue mode and started it with its own root filesystem. Update the host, or move the project to another.',
  },
  PROJECT_ARCHIVED: { status: 409, message: 'The project is archived. Rehydrate it first.' },
  PROJECT_NOT_ARCHIVED: { status: 409, message: 'The project is not archived.' },
  PROJECT_MISSING: {
    status: 409,
    message:
      'The host {host} owns the project, and reports {found} of it. If its files are still there (rookery host copies {host}), take them back: rookery host adopt {host} {projectId}. Otherwise restore a backup: rookery backup restore {projectId} latest --replace.',
  },
  PROJECT_STATE_CHANGED: {
    status: 409,
    message: 'The project changed hands meanwhile; operation {operationId} may not go on.',
  },
  PROJECT_KNOWN: {
    status: 409,
    message:
      'Project {projectId} is here already, as "{name}". Its members restore its backups; as another project it needs a new id (--new-id).',
  },
  PROJECT_COPY_FOUND: {
    status: 409,
    message:
      'The host {host} still has a copy of project {projectId}, which nobody must lose. Restore the backup under a new id (--new-id), or remove the copy first, if nobody needs it: rookery host copies delete {host} {projectId}.',
  },
  BACKUP_GONE: {
    status: 410,
    message:
      'The repository no longer holds backup {backupId} of project {projectId}. List its backups again and choose another.',
  },
  BACKUP_UNVERIFIED: {
    status: 502,
    message: 'The new backup was not read back whole. Nothing was deleted.',
  },
  SNAPSHOTS_LOCKED: {
    status: 409,
    message:
      'The project has locked snapshots ({names}), which would be lost. Unlock them, or leave the project where it is.',
  },

  // Hosts and placement
  HOST_UNKNOWN: { status: 404, message: 'There is no host {host}.' },
  HOST_OFFLINE: { status: 409, message: 'The host {host} is offline.' },
  HOST_CORDONED: { status: 409, message: 'The host {host} takes no new projects (cordoned).' },
  HOST_NOT_EMPTY: {
    status: 409,
    message: 'The host {host} still owns projects ({projects}). Drain it first.',
  },
  HOST_BUSY: {
    status: 409,
    message:
      'The host {host} takes part in unfinished work. Wait for it, or end it with "rookery op resolve".',
  },
  HOST_ONLINE: {
    status: 409,
    message: 'The host {host} answers, so it is not lost. Drain it, then remove it.',
  },
  HOST_LOST: {
    status: 410,
    message:
      'The host {host} was lost. Rehydrate the project to get back what its newest backup holds.',
  },
  PROJECT_LOST: {
    status: 410,
    message: 'The host {host} was lost, and with it the project, which has no backup. Delete it.',
  },
  QUOTA_OVER_HOST: {
    status: 409,
    message:
      'The host {host} cannot promise the project that much: {reasons}. Ask for less, move the project to a larger host, or raise ROOKERY_DISK_OVERCOMMIT or ROOKERY_MEMORY_OVERCOMMIT.',
  },
  COPY_UNKNOWN: {
    status: 404,
    message: 'The host {host} holds no copy of project {projectId} beside its own projects.',
  },
  COPY_IS_OWNED: {
    status: 409,
    message:
      'The host {host} owns project {projectId}: what lies there may be all that is left of it. Take it back with rookery host adopt {host} {projectId}, or delete the project.',
  },
  COPY_NOT_OWNED: {
    status: 409,
    message:
      'Project {projectId} {place}, so the host {host} cannot take it back. Remove its copy with rookery host copies delete {host} {projectId}, or restore a backup.',
  },
  NO_HOST: { status: 409, message: 'No host can take the project. {reasons}' },
  CALLER_REFUSED: { status: 403, message: '{caller} may not speak for {subject}.' },
  JOIN_TOKEN_INVALID: {
    status: 401,
    message: 'The join token is unknown, expired or used up. Make a new one.',
  },

  // Operations
  OPERATION_ENDED: { status: 409, message: 'Operation {operationId} has ended: {state}.' },
  OPERATION_RESOLVED: { status: 409, message: 'The operation was ended by hand: {reason}.' },
  RESOLVE_REFUSED: {
    status: 409,
    message: 'The operation cannot be ended as {as}: {reason}. End it as {other}, or try it again.',
  },

  DRAIN_INCOMPLETE: {
    status: 409,
    message: '{left} could not be moved off the host; the first: {reason}',
  },

  // Own parts
  DATABASE_UNAVAILABLE: {
    status: 503,
    message: 'The hub’s database cannot answer at the moment. Try again.',
    retryable: true,
  },
  HUB_PORT_IN_USE: {
    status: 500,
    message: 'Port {port} of {listen} is in use. Choose another one.',
  },
  POSTGRES_FAILED: { status: 500, message: 'Postgres does not start: {reason}' },
  POSTGRES_UNREACHABLE_FOLDER: {
    status: 500,
    message:
      'User {user} cannot enter {path}. Choose a data folder below one that everybody may enter.',
  },
});
