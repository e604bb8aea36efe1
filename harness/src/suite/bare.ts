import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Reverter, SystemExec, toCodedError, type Exec } from '@rookery/core';
import { addBareNetwork } from './bare-network.js';
import type { Tally } from './tally.js';

/**
 * Fresh machines for the README: plain root filesystems in containers that may do what a real
 * machine's root may (mount, loop devices, nested containers), with nothing installed.
 */
const releases = ['bookworm', 'trixie'] as const;
type Release = (typeof releases)[number];

const upSecondsMax = 300;
const testMinutesMax = 60;
const podmanRoot = '/var/tmp/rookery-bare';

/** Settings of this machine's network that a machine inside needs as well. */
const passedEnvironment = [
  'NODE_EXTRA_CA_CERTS',
  'SSL_CERT_FILE',
  'CURL_CA_BUNDLE',
  'http_proxy',
  'https_proxy',
  'no_proxy',
];
const caBundle = '/etc/ssl/certs/ca-certificates.crt';

const exec: Exec = new SystemExec();

/** @param selection releases to try, and `up` to leave out the long `./rookery test`. */
export async function runBare(root: string, selection: readonly string[] = []): Promise<Tally> {
  const wanted = releases.filter((r) => !selection.some(isRelease) || selection.includes(r));
  const parts = selection.includes('up') ? (['up'] as const) : (['up', 'test'] as const);
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  for (const release of wanted) {
    const problems = await tryRelease(root, release, parts);
    for (const [part, problem] of problems) {
      process.stdout.write(`${problem === undefined ? 'PASS' : 'FAIL'} ${release}: ${part}\n`);
      if (problem === undefined) tally.passed += 1;
      else {
        tally.failed += 1;
        process.stdout.write(`${problem}\n`);
      }
    }
  }
  return tally;
}

const isRelease = (word: string): boolean => (releases as readonly string[]).includes(word);

async function tryRelease(
  root: string,
  release: Release,
  parts: readonly ('up' | 'test')[],
): Promise<Map<string, string | undefined>> {
  const results = new Map<string, string | undefined>();
  await using undo = new Reverter();
  const folder = await mkdtemp(join(tmpdir(), `rookery-bare-${release}-`));
  undo.add(() => rm(folder, { recursive: true, force: true }));
  const { machine, problem } = await bootMachine(root, release, folder, undo).then(
    (run) => ({ machine: run, problem: undefined }),
    (error: unknown) => ({ machine: undefined, problem: toCodedError(error).message }),
  );
  if (!machine) return results.set('a fresh machine', problem);
  if (parts.includes('up')) results.set('./rookery up --detach', await tryUp(machine));
  if (parts.includes('test')) {
    results.set('./rookery test', await problemIn(() => tryTest(machine)));
  }
  return results;
}

/** A machine that does not come up in time shows what its parts said. */
const upCommand =
  `timeout ${upSecondsMax} ./rookery up --detach 2>&1 || ` +
  '{ echo "up ended with $?"; tail -n 5 /var/lib/rookery/log/*.log; exit 1; }';

type Run = (command: string, timeoutMs: number) => Promise<string>;

async function tryUp(run: Run): Promise<string | undefined> {
  return problemIn(async () => {
    const started = Date.now();
    const printed = await run(upCommand, upSecondsMax * 1000 + 30_000);
    const seconds = Math.round((Date.now() - started) / 1000);
    process.stdout.write(`${printed}\n./rookery up --detach took ${seconds} s\n`);
    await run('./rookery status', 60_000);
    // The page that up tells a person to open: fetched from inside, with the machine's own tools.
    const url = /https?:\/\/\S+/.exec(printed)?.[0];
    if (!url) throw new Error('up printed no address to open');
    const page = await run(
      `node_bin=$(echo /var/cache/rookery/node24/node_modules/node-linux-*/bin/node); ` +
        `"$node_bin" -e 'fetch(process.argv[1]).then(async r=>{console.log(r.status, await r.text());process.exit(r.ok?0:1)})' '${url}'`,
      60_000,
    );
    if (!page.startsWith('200')) throw new Error(`${url} answered ${page.slice(0, 200)}`);
    await run('./rookery down --destroy --yes', 120_000);
  });
}

async function tryTest(run: Run): Promise<void> {
  const printed = await run('./rookery test 2>&1 | tail -n 400', testMinutesMax * 60_000);
  const last = printed.trim().split('\n').at(-1) ?? '';
  process.stdout.write(`${last}\n`);
  if (!/^\d+ passed, 0 failed/.test(last)) throw new Error(printed.slice(-8000));
}

async function problemIn(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return toCodedError(error).message;
  }
}

/** Boots one machine and gives a way to run shell commands in its clone of the repository. */
async function bootMachine(
  root: string,
  release: Release,
  folder: string,
  undo: Reverter,
): Promise<Run> {
  process.stdout.write(`making a fresh ${release} machine\n`);
  const rootfs = join(folder, 'rootfs');
  await mkdir(rootfs);
  await exec.run(['tar', '-xpf', await baseSystem(release), '-C', rootfs], { timeoutMs: 300_000 });
  await exec.run(['git', 'clone', '-q', root, join(rootfs, 'root/rookery')], {
    timeoutMs: 120_000,
  });
  await access(caBundle);
  const name = `rookery-bare-${release}-${process.pid}`;
  const network = await addBareNetwork(exec, name, undo);
  const podman = [
    'podman',
    '--root',
    podmanRoot,
    '--runroot',
    `${podmanRoot}-run`,
    '--cgroup-manager',
    'cgroupfs',
    '--events-backend',
    'none',
  ];
  undo.add(() => exec.run([...podman, 'rm', '-f', '-t', '0', name], { timeoutMs: 120_000 }));
  const containersConf = join(folder, 'containers.conf');
  await writeFile(
    containersConf,
    '[containers]\ndefault_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]\n[engine]\nruntime = "runc"\n',
  );
  const env = { CONTAINERS_CONF: containersConf, PODMAN_IGNORE_CGROUPSV1_WARNING: '1' };
  await exec.run([...podman, ...machineArguments(name, network, rootfs)], {
    env,
    timeoutMs: 120_000,
  });
  const run: Run = async (command, timeoutMs) => {
    const script = `cd /root/rookery && ${command}`;
    const { stdout, exit } = await exec.run([...podman, 'exec', name, 'bash', '-c', script], {
      env,
      timeoutMs,
      okExits: Array.from({ length: 256 }, (_, n) => n),
    });
    if (exit !== 0) throw new Error(`${command} ended with ${exit}:\n${stdout.slice(-4000)}`);
    return stdout;
  };
  // Nested containers need writable cgroups and loop devices; a real machine has both.
  await run(
    'for c in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,rw "$c" 2>/dev/null || mount -o remount,bind,rw "$c" 2>/dev/null || true; done; ' +
      'for n in $(seq 0 63); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done',
    30_000,
  );
  return run;
}

function machineArguments(name: string, network: string, rootfs: string): string[] {
  const environment = passedEnvironment
    .filter((key) => process.env[key] !== undefined)
    .flatMap((key) => ['--env', `${key}=${process.env[key] ?? ''}`]);
  return [
    'run',
    '--detach',
    '--name',
    name,
    '--network',
    `ns:/run/netns/${network}`,
    '--cap-add=ALL',
    '--cap-drop=SYS_RESOURCE',
    '--security-opt=seccomp=unconfined',
    '--security-opt=unmask=ALL',
    '--device=/dev/loop-control',
    '--device=/dev/btrfs-control',
    '--device-cgroup-rule=b 7:* rmw',
    '--tmpfs=/run',
    '--pids-limit=-1',
    `--volume=${caBundle}:${caBundle}:ro`,
    ...environment,
    '--rootfs',
    rootfs,
    'sleep',
    'infinity',
  ];
}

/** A minimal Debian: what `debootstrap --variant=minbase` gives, plus certificates. Kept in the cache. */
async function baseSystem(release: Release): Promise<string> {
  const cache = join(process.env.ROOKERY_CACHE ?? '/var/cache/rookery', 'bare');
  const archive = join(cache, `${release}.tar`);
  try {
    await access(archive);
    return archive;
  } catch {
    await mkdir(cache, { recursive: true });
  }
  const mirror = await debianMirror();
  const staging = `${archive}.${process.pid}`;
  await exec.run(
    [
      'mmdebstrap',
      '--format=tar',
      '--variant=minbase',
      '--include=ca-certificates',
      release,
      staging,
      mirror,
    ],
    { timeoutMs: 600_000, env: { TMPDIR: '/var/tmp' } },
  );
  await exec.run(['mv', staging, archive]);
  return archive;
}

/** Debian's address as this machine's apt knows it. */
async function debianMirror(): Promise<string> {
  const { ID } = Object.fromEntries(
    (await readFile('/etc/os-release', 'utf8'))
      .split('\n')
      .map((line) => line.split('=') as [string, string]),
  );
  const { stdout } = await exec.run([
    'apt-get',
    'indextargets',
    '--format',
    '$(REPO_URI)',
    'Created-By: Packages',
  ]);
  const uri = stdout.split('\n').find((line) => /\/debian\/?$/.test(line));
  if (ID !== 'debian' || !uri) {
    throw new Error(
      'bare machines are made on Debian: this machine has no Debian mirror configured',
    );
  }
  return uri;
}
