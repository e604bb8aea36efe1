import { catalogue } from '@rookery/core';

export const HostErrors = catalogue('appliance', {
  HOST_NOT_JOINED: {
    status: 500,
    message: 'This host has not joined a hub yet. Give it a join token (ROOKERY_JOIN_TOKEN).',
  },
  HOST_PARTS_MISSING: {
    status: 500,
    message: 'This machine lacks what a host needs: {parts}. `./rookery join` brings all of it.',
  },
  PROJECT_NOT_OWNED: {
    status: 409,
    message: 'The hub says that project {projectId} does not belong on this host. It was stopped.',
  },
  COPY_NOT_HERE: {
    status: 404,
    message:
      'This host holds no copy of project {projectId} beside its own projects. rookery host copies shows what it holds.',
  },
  PROJECT_TOKEN_UNFIT: {
    status: 502,
    message: 'The hub sent a token for the programs of project {projectId} that is not one.',
  },
  HOST_DATABASE_FULL: {
    status: 507,
    message:
      'The disk with the host’s database is full; nothing was changed. Free space in its data folder.',
    retryable: true,
  },
  HOST_DATABASE_BUSY: {
    status: 503,
    message:
      'Another process holds the host’s database; nothing was changed. Look who has it open.',
    retryable: true,
  },
  HOST_DATABASE_FAILED: {
    status: 500,
    message: 'The host’s database refused a change: {reason}. Check its disk.',
  },
  BACKUPS_NOT_CONFIGURED: {
    status: 409,
    message: 'This host has no backup repository. Set ROOKERY_BACKUP_REPOSITORY.',
  },
});
