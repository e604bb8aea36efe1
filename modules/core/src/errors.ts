/**
 * Coded errors. Each package keeps one catalogue in its `*.errors.ts`; the code is a contract
 * (docs/ERRORS.md lists them all), the message tells the reader what to do.
 */

/** How one code of a catalogue is declared. `{name}` in the message is filled from the details. */
export interface ErrorDefinition {
  /** HTTP status that the API answers with. */
  readonly status: number;
  readonly message: string;
  /** True when the same call may succeed later without any change by the caller. */
  readonly retryable?: boolean;
}

export type ErrorDetails = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** What crosses a process border in place of an exception. */
export interface CodedErrorJson {
  readonly code: string;
  readonly message: string;
  readonly status: number;
  readonly retryable: boolean;
  readonly details?: ErrorDetails;
}

export class CodedError extends Error {
  readonly code: string;
  readonly status: number;
  readonly retryable: boolean;
  readonly details: ErrorDetails;

  constructor(json: CodedErrorJson, options?: { cause?: unknown }) {
    super(json.message, options);
    this.name = 'CodedError';
    this.code = json.code;
    this.status = json.status;
    this.retryable = json.retryable;
    this.details = json.details ?? {};
  }

  toJSON(): CodedErrorJson {
    const { code, message, status, retryable, details } = this;
    return { code, message, status, retryable, details };
  }

  static is(error: unknown, code?: string): error is CodedError {
    return error instanceof CodedError && (code === undefined || error.code === code);
  }
}

/** Makes an error of one code: `StorageErrors.QUOTA_BELOW_USE({ used, wanted })`. */
export type ErrorFactory = (
  details?: ErrorDetails,
  options?: { cause?: unknown; message?: string },
) => CodedError;

/** What a message's `{name}`s are filled from; `message` says it all in its own words instead. */
type FillingErrorFactory<Names extends string> = (
  ...args:
    | [
        details: Readonly<Record<Names, string | number | boolean>> & ErrorDetails,
        options?: { readonly cause?: unknown; readonly message?: string },
      ]
    | [details: ErrorDetails, options: { readonly cause?: unknown; readonly message: string }]
) => CodedError;

type NamesIn<Message extends string> = Message extends `${string}{${infer Name}}${infer Rest}`
  ? Name | NamesIn<Rest>
  : never;

/** Demands what the message is filled from, so that none ever shows a `{name}`. */
type FactoryOf<Message extends string> = string extends Message
  ? 'write the message as one literal: its names are taken from its type'
  : [NamesIn<Message>] extends [never]
    ? ErrorFactory
    : FillingErrorFactory<NamesIn<Message>>;

export type Catalogue<T extends Record<string, ErrorDefinition>> = {
  readonly [K in keyof T]: FactoryOf<T[K]['message']>;
} & { readonly [catalogueDefinitions]: CatalogueDefinitions };

export interface CatalogueDefinitions {
  readonly packageName: string;
  readonly codes: Readonly<Record<string, ErrorDefinition>>;
}

export const catalogueDefinitions: unique symbol = Symbol('catalogueDefinitions');

/** Declares a package's errors. Codes are global: docs/ERRORS.md fails to generate on a duplicate. */
export function catalogue<const T extends Record<string, ErrorDefinition>>(
  packageName: string,
  codes: T,
): Catalogue<T> {
  const factories: Record<string, ErrorFactory> = {};
  for (const [code, definition] of Object.entries(codes)) {
    factories[code] = (details = {}, options = {}) =>
      new CodedError(
        {
          code,
          status: definition.status,
          retryable: definition.retryable ?? false,
          message: options.message ?? fill(definition.message, details),
          details,
        },
        { cause: options.cause },
      );
  }
  return Object.assign(factories, {
    [catalogueDefinitions]: { packageName, codes },
  }) as unknown as Catalogue<T>;
}

function fill(message: string, details: ErrorDetails): string {
  return message.replace(/\{(\w+)\}/g, (whole, key: string) =>
    details[key] === undefined ? whole : String(details[key]),
  );
}

/** The coded form of anything thrown; what has no code becomes INTERNAL and keeps its cause. */
export function toCodedError(error: unknown): CodedError {
  if (error instanceof CodedError) return error;
  if (error instanceof Error && error.name === 'AbortError') {
    return CoreErrors.CANCELED({}, { cause: error });
  }
  const reason = error instanceof Error ? error.message : String(error);
  return CoreErrors.INTERNAL({ reason }, { cause: error });
}

/**
 * Why work ended that a signal has ended: the signal's own coded reason (its process stops, a newer
 * attempt came), else somebody canceled it. What the aborted work itself throws says nothing.
 */
export function abortedBy(signal: AbortSignal, cause?: unknown): CodedError {
  const reason: unknown = signal.reason;
  return CodedError.is(reason) ? reason : CoreErrors.CANCELED({}, { cause });
}

export const CoreErrors = catalogue('core', {
  INTERNAL: { status: 500, message: 'Something went wrong inside: {reason}' },
  CANCELED: { status: 409, message: 'The work was canceled before it ended.' },
  INTERRUPTED: {
    status: 503,
    message: 'The work was interrupted: {reason}. It goes on when it is asked for again.',
    retryable: true,
  },
  INVALID_INPUT: { status: 400, message: 'The input is not valid: {reason}' },
  INVALID_CONFIG: { status: 500, message: 'The configuration is not valid: {reason}' },
  NOT_FOUND: { status: 404, message: 'There is no {what} {id}.' },
  TIMEOUT: { status: 504, message: '{what} took longer than {timeoutMs} ms.', retryable: true },
  COMMAND_FAILED: { status: 500, message: '{command} failed ({exit}): {stderr}' },
  COMMAND_MISSING: {
    status: 500,
    message: '{command} is not installed. Install it and try again.',
  },
  PATH_OUTSIDE: { status: 400, message: 'The path {path} leads outside the project.' },
  STALE_GENERATION: {
    status: 409,
    message: 'The call carries placement generation {given}; this host is at {current}.',
  },
  STALE_ATTEMPT: {
    status: 409,
    message: 'The call carries attempt {given} of its operation; attempt {current} is under way.',
  },
  TOKEN_INVALID: { status: 401, message: 'The token is not valid: {reason}. Sign in again.' },
});
