/** An error as JetStream's API answers it. */
export interface ApiError {
  readonly code: number;
  readonly err_code: number;
  readonly description: string;
}

/** Thrown by what handles a request; the API answers it. */
export class JetStreamApiError extends Error {
  constructor(readonly apiError: ApiError) {
    super(apiError.description);
  }
}

export const jsError = (code: number, errCode: number, description: string): JetStreamApiError =>
  new JetStreamApiError({ code, err_code: errCode, description });
