import { KeyedLock, type Exec } from '@rookery/core';
import type { Egress } from '@rookery/core/contract';
import { hostRules, linkRules, type ChangingRules, type NetworkRules } from './network-rules.js';

/** Everything of the table has one owner: what is read to be written is not changed in between. */
const tableLock = 'table';

/** A host's table of rules in the kernel: written whole, in one transaction, and looked at again. */
export class HostRules {
  private readonly lock = new KeyedLock();
  /** What was written last as a whole, and how the kernel showed it then. */
  private written: { readonly text: string; readonly shown: string | undefined } | undefined;
  private plain = false;

  constructor(
    private readonly exec: Exec,
    private readonly rules: NetworkRules,
  ) {}

  /** At the start of a process: the host's policy counts, the projects' stay as they are. */
  open(ownNetworks: readonly string[]): Promise<void> {
    return this.lock.run(tableLock, async () => {
      const changing = { ownNetworks, policies: new Map<string, undefined>() };
      try {
        await this.tryWrite((plain) =>
          hostRules(this.rules, changing, { plain, keepProjects: true }),
        );
      } catch {
        // A table of another release, or of someone else's hand: the projects' policies come back
        // with the first comparison, and until then they pass nothing.
        await this.tryWrite((plain) => hostRules(this.rules, changing, { plain }));
      }
      this.written = undefined;
    });
  }

  /** @param wish asked while nobody else writes: a policy that changes meanwhile comes after it */
  load(wish: () => Promise<ChangingRules>): Promise<void> {
    return this.lock.run(tableLock, async () => {
      const changing = await wish();
      const text = await this.tryWrite((plain) => hostRules(this.rules, changing, { plain }));
      this.written = { text, shown: await this.shown() };
    });
  }

  /** At once, also for connections that are open. */
  setPolicy(link: string, egress: Egress | undefined): Promise<void> {
    return this.lock.run(tableLock, async () => {
      // Whatever happens below, the next comparison writes everything anew.
      this.written = undefined;
      const { table } = this.rules;
      await this.write(`${linkRules(table, link, egress).join('\n')}\n`);
    });
  }

  /** Whether the table is what is wished, and nobody else has changed it. */
  async isIntact(changing: ChangingRules): Promise<boolean> {
    const { written, plain } = this;
    if (written?.shown === undefined) return false;
    if (written.text !== hostRules(this.rules, changing, { plain })) return false;
    return (await this.shown()) === written.shown;
  }

  async remove(): Promise<void> {
    const { table } = this.rules;
    await this.write(`table inet ${table} {}\ndelete table inet ${table}\n`);
    this.written = undefined;
  }

  private async tryWrite(textOf: (plain: boolean) => string): Promise<string> {
    try {
      await this.write(textOf(this.plain));
    } catch (error) {
      if (this.plain) throw error;
      await this.write(textOf(true));
      this.plain = true;
    }
    return textOf(this.plain);
  }

  private async write(input: string): Promise<void> {
    await this.exec.run(['nft', '-f', '-'], { input });
  }

  private async shown(): Promise<string | undefined> {
    const argv = ['nft', 'list', 'table', 'inet', this.rules.table];
    const { exit, stdout } = await this.exec.run(argv, { okExits: [0, 1] });
    return exit === 0 ? stdout : undefined;
  }
}
