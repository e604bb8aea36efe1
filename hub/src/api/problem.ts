import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import { ArgumentsHost, Catch, HttpException, type ExceptionFilter } from '@nestjs/common';
import type { Problem } from '@rookery/client/contract';
import { CodedError, CoreErrors, newId, toCodedError, type Logger } from '@rookery/core';
import type { Request } from 'express';
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
    const coded = toCodedError(databaseError(error));
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
  if (status === 404) return HubErrors.ROUTE_UNKNOWN({ method, path });
  return CoreErrors.INVALID_INPUT({ reason: error.message });
}

function definedOnly(details: CodedError['details']): NonNullable<Problem['details']> {
  return Object.fromEntries(
    Object.entries(details).filter(([, value]) => value !== undefined),
  ) as NonNullable<Problem['details']>;
}
