import { describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { oomScore, SystemExec } from '@rookery/core';

const exec = new SystemExec();
/** Its own, and that of what it starts. */
const tell = ['sh', '-c', 'cat /proc/self/oom_score_adj; (sh -c "cat /proc/self/oom_score_adj")'];
const own = readFileSync('/proc/self/oom_score_adj', 'utf8').trim();

describe('what is ended when memory runs out', () => {
  it('is first what can be tried again, with all that it starts', async () => {
    const oomScoreAdj = oomScore.expendable;
    expect((await exec.run(tell, { oomScoreAdj })).stdout).toBe('600\n600\n');
    const child = exec.spawn(tell, { oomScoreAdj });
    child.stdin.end();
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await child.ended;
    expect(said).toBe('600\n600\n');
  });

  it('is by default what the machine says: nothing is lowered', async () => {
    expect((await exec.run(tell, {})).stdout).toBe(`${own}\n${own}\n`);
  });

  it('is a service last, and none of what it starts with it', async () => {
    const core = fileURLToPath(new URL('../dist/index.js', import.meta.url));
    const service = `
      import { protectFromOom, spawnPty, SystemExec } from ${JSON.stringify(core)};
      import { readFileSync } from 'node:fs';
      const refused = protectFromOom();
      const { stdout } = await new SystemExec().run(['cat', '/proc/self/oom_score_adj']);
      const terminal = spawnPty(['cat', '/proc/self/oom_score_adj'], { size: { columns: 80, rows: 24 } });
      let shown = '';
      terminal.output.on('data', (chunk) => (shown += chunk));
      await terminal.ended;
      const own = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
      console.log(JSON.stringify({ refused, own, child: Number(stdout), inTerminal: Number(shown) }));`;
    const argv = [process.execPath, '--input-type=module', '-e', service];
    const { refused, ...scores } = JSON.parse((await exec.run(argv)).stdout) as {
      refused?: string;
    };
    if (refused === undefined) {
      expect(scores).toEqual({ own: oomScore.service, child: 0, inTerminal: 0 });
    } else {
      // A machine that lets nobody lower it says so, and all is as it was.
      expect(refused).toBe('the capability CAP_SYS_RESOURCE is missing');
      expect(scores).toEqual({ own: Number(own), child: Number(own), inTerminal: Number(own) });
    }
  });
});
