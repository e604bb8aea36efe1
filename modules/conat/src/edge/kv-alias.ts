const api = '.js.api.';
const keyValue = '.js.api.$KV.';

/**
 * With `apiPrefix: <root>.<id>.js.api`, clients in JavaScript and Go put keys to
 * `<root>.<id>.js.api.$KV.<bucket>.<key>`. That is another name of `<root>.<id>.$KV.…`.
 * @param spaces the root of all spaces with the dot behind it
 */
export function resolveKvAlias(subject: string, spaces: string): string {
  if (!subject.startsWith(spaces)) return subject;
  const at = subject.indexOf('.', spaces.length);
  if (at < 0 || !subject.startsWith(keyValue, at)) return subject;
  return subject.slice(0, at + 1) + subject.slice(at + api.length);
}
