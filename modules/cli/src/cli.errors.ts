import { catalogue } from '@rookery/core';

export const CliErrors = catalogue('cli', {
  USAGE: { status: 400, message: '{reason}' },
  REPOSITORY_NEEDED: {
    status: 501,
    message:
      'rookery {command} needs the programs of hub and host. In Rookery’s repository: ./rookery {command}',
  },
  PROJECT_AMBIGUOUS: {
    status: 409,
    message: '{count} projects match "{name}". Use one of the ids: {ids}',
  },
  HOST_AMBIGUOUS: {
    status: 409,
    message: '{count} hosts match "{name}". Use one of the ids: {ids}',
  },
  OPERATION_AMBIGUOUS: {
    status: 409,
    message: '{count} operations match "{name}". Use one of the ids: {ids}',
  },
  COLLABORATOR_UNKNOWN: { status: 404, message: '{account} is no collaborator of the project.' },
  BROWSER_ADDRESS_MISSING: {
    status: 409,
    message:
      'This hub has no addresses of projects for browsers. Its operator sets ROOKERY_APPS_URL (up --apps-url).',
  },
  CONTEXT_UNKNOWN: {
    status: 404,
    message: 'There is no context {name}. `rookery context list` shows those that there are.',
  },
  CONTEXT_TAKEN: {
    status: 409,
    message:
      'The context {name} is of {target}. Give another name with --context, or delete that one first.',
  },
  CONTEXT_NOT_CHOSEN: {
    status: 409,
    message:
      'No context is in use. Choose one: `rookery context use NAME`, or --context NAME ({names}).',
  },
  WORK_GOES_ON: {
    status: 409,
    message: 'The work goes on without this command. Follow it: rookery op wait {operationId}',
  },
  CONFIRMATION_REFUSED: { status: 409, message: 'Nothing was done.' },
  CREDENTIALS_INVALID: {
    status: 500,
    message: 'The credentials in {path} cannot be read ({reason}). Log in again.',
  },
  CONAT_FORBIDDEN: { status: 403, message: 'You may not {what} {subject}.' },
  CONAT_NO_ANSWER: {
    status: 504,
    message: 'There was no answer in time.',
    retryable: true,
  },
  CONAT_CONNECTION_LOST: {
    status: 503,
    message: 'The connection to the broker was lost: {reason}',
    retryable: true,
  },
  JETSTREAM_REFUSED: { status: 400, message: 'JetStream refused: {reason} ({jetStreamCode}).' },
  JETSTREAM_MISSING: {
    status: 503,
    message: 'There is no persistence (JetStream) here. Name a --project, or serve with --store.',
  },
  COMMAND_TOO_LONG: {
    status: 413,
    message:
      'The command with its variables takes more than {limitBytes} bytes. Pass what is long on standard input or in a file.',
  },
  OUTPUT_TOO_LARGE: {
    status: 413,
    message: 'The output is larger than {bytesMax} bytes. Leave --json away to stream it.',
  },
});

/** Wrong use of a command: exit status 2 and a hint. */
export const usageError = (reason: string): Error => CliErrors.USAGE({ reason });
