import { catalogue } from '@rookery/core';

export const HostErrors = catalogue('appliance', {
  HOST_NOT_JOINED: {
    status: 500,
    message: 'This host has not joined a hub yet. Give it a join token (ROOKERY_JOIN_TOKEN).',
  },
  PROJECT_NOT_OWNED: {
    status: 409,
    message: 'The hub says that project {projectId} does not belong on this host. It was stopped.',
  },
  PROJECT_TOKEN_UNFIT: {
    status: 502,
    message: 'The hub sent a token for the programs of project {projectId} that is not one.',
  },
  BACKUPS_NOT_CONFIGURED: {
    status: 409,
    message: 'This host has no backup repository. Set ROOKERY_BACKUP_REPOSITORY.',
  },
});
