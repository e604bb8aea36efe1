import { api, apiPrefix, ProjectView, type OperationName } from '@rookery/api';

/** What a reader of the API wants to see first: its operations, one a line. */
export const routes = (): string[] =>
  Object.entries(api).map(([name, { method, path, summary }]) => {
    return `${name}: ${method} ${apiPrefix}${path} (${summary})`;
  });

/** Whether anybody may call it. */
export const isPublic = (name: OperationName): boolean => !api[name].authenticated;

/** What came over the wire as a project, or undefined when it is none. */
export const projectOf = (body: unknown): ProjectView | undefined =>
  ProjectView.safeParse(body).data;
