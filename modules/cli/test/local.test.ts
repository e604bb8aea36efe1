import { expect, it } from '@jest/globals';
import { cli } from '@rookery/cli/testing';
import type { CommandModule } from '@rookery/cli';

it.each([
  ['up', '--hosts', '3', '--detach'],
  ['down', '--destroy'],
  ['status'],
  ['join', 'http://hub'],
])('says where %s is to be had', async (...argv) => {
  const { exit, stdout, stderr } = await cli(argv);
  expect([exit, stdout]).toEqual([1, '']);
  expect(stderr).toContain(`./rookery ${argv[0]} (REPOSITORY_NEEDED)`);
  const coded = await cli([...argv, '--json']);
  expect(JSON.parse(coded.stderr)).toMatchObject({ error: { code: 'REPOSITORY_NEEDED' } });
  expect((await cli([argv[0], '--help'])).exit).toBe(0);
});

it('takes the commands of this machine from whoever has them, first in the help', async () => {
  const own: CommandModule = (program, one) => {
    program
      .command('up')
      .description('start it')
      .action(one.action(async () => ({ json: 'up', text: 'it is up' })));
  };
  expect(await cli(['up'], { local: [own] })).toEqual({
    exit: 0,
    stdout: 'it is up\n',
    stderr: '',
  });
  const { stdout } = await cli(['--help'], { local: [own] });
  expect(stdout).toMatch(/Commands:\n {2}up +start it\n {2}login/);
  expect(stdout).not.toContain('from the repository');
});
