import { CodedError, CoreErrors } from '@rookery/core';
import type { HostView, OperationView, ProjectView } from '@rookery/api';
import type { RookeryClient } from '@rookery/client';
import { CliErrors } from './cli.errors.js';

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** Shorter beginnings of ids are more likely a mistyped name. */
const idPrefix = /^[0-9a-f][0-9a-f-]{3,35}$/i;
/** An operation's id is looked for among this many recent ones. */
const operationsSearchedMax = 500;

/**
 * A project by id, by name, or by the beginning of its id; in that order.
 * @throws PROJECT_UNKNOWN, PROJECT_AMBIGUOUS
 */
export async function findProject(client: RookeryClient, text: string): Promise<ProjectView> {
  if (uuid.test(text)) return client.getProject({ projectId: text });
  const named: ProjectView[] = [];
  for await (const project of client.each('listProjects', { name: text })) {
    if (project.name === text) named.push(project);
  }
  if (named.length === 0 && idPrefix.test(text)) {
    for await (const project of client.each('listProjects')) {
      if (project.id.startsWith(text.toLowerCase())) named.push(project);
    }
  }
  return only(named, text, CliErrors.PROJECT_AMBIGUOUS, unknown('PROJECT', 'project', text));
}

/** @throws HOST_UNKNOWN, HOST_AMBIGUOUS */
export async function findHost(client: RookeryClient, text: string): Promise<HostView> {
  if (uuid.test(text)) return client.getHost({ hostId: text });
  const hosts = await collect(client.each('listHosts'));
  const named = hosts.filter((host) => host.name === text);
  const found =
    named.length > 0 || !idPrefix.test(text)
      ? named
      : hosts.filter((host) => host.id.startsWith(text.toLowerCase()));
  return only(found, text, CliErrors.HOST_AMBIGUOUS, unknown('HOST', 'host', text));
}

/** @throws NOT_FOUND, OPERATION_AMBIGUOUS */
export async function findOperation(client: RookeryClient, text: string): Promise<OperationView> {
  if (uuid.test(text)) return client.getOperation({ operationId: text });
  const { items } = await client.listOperations({ limit: operationsSearchedMax });
  const found = idPrefix.test(text)
    ? items.filter((operation) => operation.id.startsWith(text.toLowerCase()))
    : [];
  return only(
    found,
    text,
    CliErrors.OPERATION_AMBIGUOUS,
    CoreErrors.NOT_FOUND({ what: 'operation', id: text }),
  );
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

function only<T extends { id: string }>(
  found: readonly T[],
  name: string,
  ambiguous: (details: { name: string; count: number; ids: string }) => CodedError,
  missing: CodedError,
): T {
  const [first, ...others] = found;
  if (first === undefined) throw missing;
  if (others.length === 0) return first;
  const ids = found.map((one) => one.id).join(', ');
  throw ambiguous({ name, count: found.length, ids });
}

/** The same codes that the hub answers with for an unknown id, so that scripts know one. */
function unknown(code: string, what: string, id: string): CodedError {
  return new CodedError({
    code: `${code}_UNKNOWN`,
    message: `There is no ${what} ${id}.`,
    status: 404,
    retryable: false,
    details: { id },
  });
}
