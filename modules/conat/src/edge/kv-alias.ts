const projects = 'project.';
const api = '.js.api.';
const keyValue = '.js.api.$KV.';

/**
 * With `apiPrefix: project.<id>.js.api`, clients in JavaScript and Go put keys to
 * `project.<id>.js.api.$KV.<bucket>.<key>`. That is another name of `project.<id>.$KV.…`.
 */
export function resolveKvAlias(subject: string): string {
  if (!subject.startsWith(projects)) return subject;
  const at = subject.indexOf('.', projects.length);
  if (at < 0 || !subject.startsWith(keyValue, at)) return subject;
  return subject.slice(0, at + 1) + subject.slice(at + api.length);
}
