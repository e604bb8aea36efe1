import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import { ArgumentsHost, Catch, HttpException, type ExceptionFilter } from '@nestjs/common';
import { api, apiPrefix, type Problem } from '@rookery/api';
import { CodedError, CoreErrors, newId, toCodedError, type Logger } from '@rookery/core';
import type { Request } from 'express';
import { QueryFailedError } from 'typeorm';
import { databaseError } from '../database/database-errors.js';
import { HubErrors } from '../hub.errors.js';
import { problemPage, sendPage } from '../pages/pages.js';
import { answerBeforeBodyEnds } from './lingering-close.js';

/** RFC 9457; `type` names the code, which docs/ERRORS.md explains. */
export function problemOf(error: CodedError): Problem {
  return {
    type: `urn:rookery:error:${error.code.toLowerCase()}`,
    title: error.code.toLowerCase().replaceAll('_', ' '),
    status: error.status,
    detail: error.message,
    code: error.code,
    retryable: error.retryable,
    ...(Object.keys(error.details).length > 0 && { details: definedOnly(error.details) }),
  };
}

/** Answers with an error, unless an answer has begun. */
export function sendProblem(
  request: IncomingMessage,
  response: ServerResponse,
  error: CodedError,
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  answerBeforeBodyEnds(request, response);
  if (wantsPage(request)) {
    const title = STATUS_CODES[error.status] ?? 'Error';
    sendPage(
      response,
      error.status,
      problemPage({ title, detail: error.message, code: error.code }),
    );
    return;
  }
  const text = JSON.stringify(problemOf(error));
  response.writeHead(error.status, {
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    ...(error.status === 401 && { 'www-authenticate': 'Bearer realm="rookery"' }),
    ...(error.status === 405 && { allow: String(error.details['allow']) }),
  });
  response.end(text);
}

/** A browser that goes somewhere outside the API; programs get problem+json. */
function wantsPage({ method, url, headers }: IncomingMessage): boolean {
  if (method !== 'GET' && method !== 'HEAD' && method !== 'POST') return false;
  return !(url ?? '').startsWith('/api/') && (headers.accept ?? '').includes('text/html');
}

/** The one place where errors become HTTP. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly log: Logger) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<Request>();
    sendProblem(request, http.getResponse<ServerResponse>(), this.coded(error, request));
  }

  private coded(error: unknown, request: Request): CodedError {
    if (error instanceof HttpException) return ofNest(error, request);
    const coded = toCodedError(inputError(error) ?? databaseError(error));
    if (coded.code !== 'INTERNAL') return coded;
    // What broke inside is for the log; the caller gets a number to ask for.
    const reference = newId();
    this.log.error({ err: error, reference, method: request.method, path: request.path }, 'failed');
    return CoreErrors.INTERNAL({ reason: `see ${reference} in the hub’s log` }, { cause: error });
  }
}

/** Nest throws for paths it does not know and for URLs that do not decode. */
function ofNest(error: HttpException, request: Request): CodedError {
  const status = error.getStatus();
  const { method, path } = request;
  if (status === 404) {
    const allow = methodsOf(path);
    if (allow.length > 0) return HubErrors.METHOD_NOT_ALLOWED({ method, allow: allow.join(', ') });
    return HubErrors.ROUTE_UNKNOWN({ method, path });
  }
  return CoreErrors.INVALID_INPUT({ reason: error.message });
}

/** Methods that the API has for a path; none for a path that it does not know. */
const methodsOf = (path: string): string[] =>
  Object.values(api)
    .filter((route) => patternOf(route.path).test(path))
    .map(({ method }) => method);

const patternOf = (path: string): RegExp =>
  new RegExp(`^${apiPrefix}${path.replace(/\{\w+\}/g, '[^/]+')}/?$`);

/** Postgres: characters, numbers and times in what was asked that no column can hold. */
const unusableStates = /^(22021|22P05|22P02|22003|22007|22008|22009)$/;

function inputError(error: unknown): CodedError | undefined {
  if (!(error instanceof QueryFailedError)) return undefined;
  const { code = '' } = error.driverError as { code?: string };
  if (!unusableStates.test(code)) return undefined;
  const reason = 'a value that cannot be looked for';
  return CoreErrors.INVALID_INPUT({ reason }, { cause: error });
}

function definedOnly(details: CodedError['details']): NonNullable<Problem['details']> {
  return Object.fromEntries(
    Object.entries(details).filter(([, value]) => value !== undefined),
  ) as NonNullable<Problem['details']>;
}
