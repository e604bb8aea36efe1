import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newSecret } from '@rookery/core';
import type { HubConfig } from '../config/config.js';

/** Injection token of the secret that the hub's processes share. */
export const HUB_SECRET = Symbol('HUB_SECRET');

/** As configured, or made once and kept in the data folder. */
export async function hubSecretOf(config: HubConfig): Promise<string> {
  if (config.conatSecret !== undefined) return config.conatSecret;
  const path = join(config.dataDir, 'conat-secret');
  const known = await readFile(path, 'utf8').catch(() => '');
  if (known !== '') return known;
  // Postgres, another user, has its folder beneath.
  await mkdir(config.dataDir, { recursive: true, mode: 0o711 });
  const fresh = newSecret('hub');
  await writeFile(path, fresh, { mode: 0o600 });
  return fresh;
}
