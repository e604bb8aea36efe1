import { link, open, rm, stat } from 'node:fs/promises';

/** Makes a secret file (0600) once; what is there stays, whatever else is repeated. */
export async function ensureSecret(path: string, make: () => string): Promise<void> {
  if ((await stat(path).catch(() => undefined)) !== undefined) return;
  const staged = `${path}.${process.pid}.new`;
  const file = await open(staged, 'w', 0o600);
  try {
    await file.writeFile(`${make()}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  // Unlike a rename, a link never replaces a secret that somebody else has just made.
  await link(staged, path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await rm(staged);
}
