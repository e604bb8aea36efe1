import type { Exec } from '@rookery/core';
import { hostRules, type NetworkRules } from './network-rules.js';

/** A host's table of rules in the kernel: written whole, in one transaction, and looked at again. */
export class HostRules {
  /** How the kernel showed the table after it was written. */
  private written: string | undefined;

  constructor(
    private readonly exec: Exec,
    private readonly rules: NetworkRules,
  ) {}

  async load(): Promise<void> {
    try {
      await this.exec.run(['nft', '-f', '-'], { input: hostRules(this.rules) });
    } catch {
      await this.exec.run(['nft', '-f', '-'], { input: hostRules(this.rules, true) });
    }
    this.written = await this.shown();
  }

  /** Whether nobody has changed the table since it was written here. */
  async isIntact(): Promise<boolean> {
    return this.written !== undefined && (await this.shown()) === this.written;
  }

  async remove(): Promise<void> {
    const { table } = this.rules;
    const input = `table inet ${table} {}\ndelete table inet ${table}\n`;
    await this.exec.run(['nft', '-f', '-'], { input });
    this.written = undefined;
  }

  private async shown(): Promise<string | undefined> {
    const argv = ['nft', 'list', 'table', 'inet', this.rules.table];
    const { exit, stdout } = await this.exec.run(argv, { okExits: [0, 1] });
    return exit === 0 ? stdout : undefined;
  }
}
