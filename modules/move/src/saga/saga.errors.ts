import { catalogue } from '@rookery/core';

export const SagaErrors = catalogue('saga', {
  LEASE_LOST: {
    status: 409,
    message: 'Another worker has taken over operation {operationId}; this one stopped.',
  },
  CANCEL_TOO_LATE: {
    status: 409,
    message: 'The operation is past the point where it could be canceled; wait until it ends.',
  },
  OPERATION_UNKNOWN: { status: 404, message: 'There is no operation {operationId}.' },
  SAGA_STEP_UNKNOWN: {
    status: 500,
    message:
      'Operation {operationId} stands at step "{step}", which this version of {saga} does not have. Run a version that has it.',
  },
});
