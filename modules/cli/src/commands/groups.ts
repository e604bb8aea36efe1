import type { Command } from 'commander';

/** A group that an earlier module made. */
export function existingGroup(program: Command, name: string): Command {
  const found = program.commands.find((command) => command.name() === name);
  if (!found) throw new TypeError(`the group ${name} must be made first`);
  return found;
}
