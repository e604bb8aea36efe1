import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { PassThrough, type Readable, type Writable } from 'node:stream';
import { ReadStream } from 'node:tty';
import koffi from 'koffi';
import { CoreErrors } from './errors.js';
import { spawnWithScore } from './oom-score.js';

export interface PtySize {
  readonly columns: number;
  readonly rows: number;
}

/** A process whose stdin, stdout and stderr are one terminal. */
export interface PtyProcess {
  /** What is typed. */
  readonly input: Writable;
  /** What the terminal shows. Ends when the last process has closed its side. */
  readonly output: Readable;
  /** Never rejects. */
  readonly ended: Promise<{ exit: number | null; signal: NodeJS.Signals | null }>;
  resize(size: PtySize): void;
  kill(signal?: NodeJS.Signals): void;
}

// Values of asm-generic/fcntl.h and ioctls.h, as x86-64 and arm64 have them.
const O_RDWR = 0o2;
const O_NOCTTY = 0o400;
const O_CLOEXEC = 0o2000000;
const TIOCSWINSZ = 0x5414;
const TIOCGPTPEER = 0x5441;

/** Runs `argv` on a terminal of its own. @throws COMMAND_FAILED when the machine has none left */
export function spawnPty(argv: readonly string[], options: { size: PtySize }): PtyProcess {
  const [file, ...args] = argv;
  if (file === undefined) throw CoreErrors.INVALID_INPUT({ reason: 'an empty command' });
  const libc = c();
  const master = libc.open('/dev/ptmx', O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) throw terminalFailure(file);
  if (libc.grantpt(master) !== 0 || libc.unlockpt(master) !== 0) {
    closeSync(master);
    throw terminalFailure(file);
  }
  const slave = libc.ioctlNumber(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) {
    closeSync(master);
    throw terminalFailure(file);
  }
  const resize = (size: PtySize): void => {
    if (terminal.destroyed) return;
    libc.ioctlBuffer(master, TIOCSWINSZ, Uint16Array.of(size.rows, size.columns, 0, 0));
  };
  const terminal = new ReadStream(master);
  resize(options.size);
  // EIO is how Linux says that the last process has closed the other side; what was read before
  // waits in a stream of its own, which an error does not empty.
  const output = new PassThrough();
  terminal.on('error', () => terminal.destroy());
  terminal.once('close', () => output.end());
  output.once('close', () => terminal.destroy());
  terminal.pipe(output, { end: false });
  const stdio = [slave, slave, slave];
  const child = spawnWithScore(() => spawn(file, args, { stdio, detached: true }));
  closeSync(slave);
  const ended = new Promise<{ exit: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('error', () => resolve({ exit: null, signal: null }));
    child.once('exit', (exit, signal) => resolve({ exit, signal }));
  });
  return {
    input: terminal,
    output,
    ended,
    resize: (size) => {
      resize(size);
      // The terminal does not control the process, so nobody else tells it.
      child.kill('SIGWINCH');
    },
    kill: (signal = 'SIGTERM') => void child.kill(signal),
  };
}

function terminalFailure(command: string): Error {
  return CoreErrors.COMMAND_FAILED({ command, exit: 'not started', stderr: 'no terminal is left' });
}

interface C {
  open(path: string, flags: number): number;
  grantpt(fd: number): number;
  unlockpt(fd: number): number;
  ioctlNumber(fd: number, request: number, value: number): number;
  ioctlBuffer(fd: number, request: number, value: Uint16Array): number;
}

let loaded: C | undefined;

function c(): C {
  if (loaded) return loaded;
  const library = koffi.load(null);
  const ioctl = library.func('int ioctl(int fd, unsigned long request, ...)');
  loaded = {
    open: library.func('int open(const char *path, int flags)'),
    grantpt: library.func('int grantpt(int fd)'),
    unlockpt: library.func('int unlockpt(int fd)'),
    ioctlNumber: (fd, request, value) => ioctl(fd, request, 'int', value) as number,
    ioctlBuffer: (fd, request, value) => ioctl(fd, request, 'uint16_t *', value) as number,
  };
  return loaded;
}
