import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createUser, fromSeed } from '@nats-io/nkeys';
import { writeFileAtomic } from '@rookery/core';
import { sshPublicKeyOf } from '@rookery/proxy';
import { KeyRow } from '../database/entities/host.entity.js';
import type { HostDatabase } from '../database/host-database.js';

/** This host's own keys. Made at the first start; the private parts never leave the machine. */
export interface HostIdentity {
  /** `U…`: who it is on conat. */
  readonly identityKey: string;
  /** `SU…`: signs the nonces of its connections. */
  readonly identitySeed: string;
  readonly transferKey: SshPair;
  readonly ingressKey: SshPair;
}

interface SshPair {
  /** `ssh-ed25519 AAAA…` */
  readonly publicKey: string;
  /** PKCS#8 PEM. */
  readonly privateKey: string;
}

/** Reads the keys, makes those that are missing (files 0600), and notes the public ones. */
export async function loadIdentity(folder: string, database: HostDatabase): Promise<HostIdentity> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  const seed = await keyFile(join(folder, 'identity.nk'), () =>
    new TextDecoder().decode(createUser().getSeed()),
  );
  const identityKey = fromSeed(new TextEncoder().encode(seed)).getPublicKey();
  const transferKey = await sshPair(join(folder, 'transfer_ed25519'), 'rookery-transfer');
  const ingressKey = await sshPair(join(folder, 'ingress_ed25519'), 'rookery-ingress');
  const rows: KeyRow[] = [
    { purpose: 'identity', publicKey: identityKey },
    { purpose: 'transfer', publicKey: transferKey.publicKey },
    { purpose: 'ingress', publicKey: ingressKey.publicKey },
  ];
  database.write((table) => rows.forEach((row) => table.put(KeyRow, row)));
  return { identityKey, identitySeed: seed, transferKey, ingressKey };
}

/** What the ingress process needs: its host key alone. */
export async function readIngressKey(folder: string): Promise<string> {
  return readFile(join(folder, 'ingress_ed25519'), 'utf8');
}

async function sshPair(path: string, comment: string): Promise<SshPair> {
  const publicFile = `${path}.pub`;
  const privateKey = await keyFile(path, () =>
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  const publicKey = sshPublicKeyOf(privateKey);
  await writeFile(publicFile, `${publicKey} ${comment}\n`);
  return { publicKey, privateKey };
}

/** A key is on disk, whole, before anyone hears of it: a crash must not leave a host with another. */
async function keyFile(path: string, make: () => string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trimEnd() + (path.endsWith('.nk') ? '' : '\n');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const text = make();
  await writeFileAtomic(path, text);
  return text;
}
