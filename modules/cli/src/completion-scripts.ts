import type { Command } from 'commander';

/** One place in the command tree and what may follow there. */
interface Node {
  /** `project exec`; empty for the program itself. */
  readonly path: string;
  readonly words: readonly { readonly name: string; readonly about: string }[];
  readonly options: readonly { readonly flag: string; readonly about: string }[];
}

/** Commands whose first operand is a project: its names are completed from the hub. */
const takesProject = (path: string): boolean =>
  /^(project (?!create|list)|snapshot |backup |share )\S+$/.test(path);

function nodesOf(program: Command): Node[] {
  const own = optionsOf(program);
  const walk = (command: Command, path: string): Node[] => [
    {
      path,
      words: command.commands.map((one) => ({ name: one.name(), about: one.description() })),
      options: command === program ? own : [...optionsOf(command), ...own],
    },
    ...command.commands.flatMap((one) => walk(one, `${path} ${one.name()}`.trim())),
  ];
  return walk(program, '');
}

const optionsOf = (command: Command): Node['options'] =>
  command.options
    .filter((option) => option.long !== undefined && !option.hidden)
    .map((option) => ({ flag: option.long ?? '', about: option.description }));

/** Names of projects for the shell, quick to fail and silent. */
const listNames = `rookery project list --json 2>/dev/null | sed -n 's/^    "name": "\\(.*\\)",$/\\1/p'`;

export function bashCompletion(program: Command): string {
  const cases = nodesOf(program).map((node) => {
    const words = [...node.words.map((word) => word.name), ...node.options.map((o) => o.flag)];
    const project = takesProject(node.path) ? ` "$(${listNames})"` : '';
    return `    ${JSON.stringify(node.path)}) words=(${words.join(' ')}${project}) ;;`;
  });
  return `# bash completion for rookery
_rookery() {
  local current=\${COMP_WORDS[COMP_CWORD]} path= word words=()
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in
      -*) continue ;;
    esac
    case "$path $word" in
${groupsPattern(program)}
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "\${words[*]}" -- "$current")
}
complete -F _rookery rookery ./rookery
`;
}

/** Words that lead one step further down the tree; others are operands. */
function groupsPattern(program: Command): string {
  return nodesOf(program)
    .filter((node) => node.path !== '')
    .map((node) => {
      const at = node.path.includes(' ') ? node.path : ` ${node.path}`;
      return `      ${JSON.stringify(at)}) path=${JSON.stringify(node.path)} ;;`;
    })
    .join('\n');
}

export function zshCompletion(program: Command): string {
  const cases = nodesOf(program).map((node) => {
    const described = [
      ...node.words.map((word) => `${word.name}:${word.about}`),
      ...node.options.map((option) => `${option.flag}:${option.about}`),
    ].map(quoted);
    const project = takesProject(node.path) ? ` "\${(@f)$(${listNames})}"` : '';
    return `    ${quoted(node.path)}) words=(${described.join(' ')}${project}) ;;`;
  });
  return `#compdef rookery
_rookery() {
  local place= word
  local -a words_before words
  words_before=("\${(@)words[2,CURRENT-1]}")
  for word in $words_before; do
    [[ $word == -* ]] && continue
    case "$place $word" in
${groupsPattern(program).replaceAll(') path=', ') place=')}
    esac
  done
  case "$place" in
${cases.join('\n')}
  esac
  _describe 'rookery' words
}
compdef _rookery rookery
`;
}

export function fishCompletion(program: Command): string {
  const lines = nodesOf(program).flatMap((node) => {
    const when = quoted(`__rookery_at ${quotedWords(node.path)}`);
    return [
      ...node.words.map(
        (word) => `complete -c rookery -f -n ${when} -a ${word.name} -d ${quoted(word.about)}`,
      ),
      ...node.options.map(
        (option) =>
          `complete -c rookery -n ${when} -l ${option.flag.slice(2)} -d ${quoted(option.about)}`,
      ),
      ...(takesProject(node.path)
        ? [`complete -c rookery -f -n ${when} -a ${quoted(`(${listNames})`)}`]
        : []),
    ];
  });
  return `# fish completion for rookery
function __rookery_at
  set -l words (string match -v -- '-*' (commandline -opc)[2..])
  set -l given $argv
  test (count $given) -eq 0; and test (count $words) -eq 0; and return 0
  test (count $given) -gt 0; and test "$words[1..(count $given)]" = "$given"
end
${lines.join('\n')}
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const quotedWords = (path: string): string => path;
