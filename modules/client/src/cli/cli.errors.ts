import { catalogue } from '@rookery/core';

export const CliErrors = catalogue('cli', {
  USAGE: { status: 400, message: '{reason}' },
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
  CONFIRMATION_REFUSED: { status: 409, message: 'Nothing was done.' },
  CREDENTIALS_INVALID: {
    status: 500,
    message: 'The credentials in {path} cannot be read ({reason}). Log in again.',
  },
  OUTPUT_TOO_LARGE: {
    status: 413,
    message: 'The output is larger than {bytesMax} bytes. Leave --json away to stream it.',
  },
});

/** Wrong use of a command: exit status 2 and a hint. */
export const usageError = (reason: string): Error => CliErrors.USAGE({ reason });
